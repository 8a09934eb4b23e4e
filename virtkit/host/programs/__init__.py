"""Programs of their own, which run elsewhere: nothing here imports virtkit."""
