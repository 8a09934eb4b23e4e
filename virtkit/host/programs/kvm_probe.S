# A boot sector that does what a broken KVM fails at: it enters long mode with paging, counts to
# probe.py's COUNT, and then switches the machine off through ACPI. Only a guest whose virtual CPU
# really runs gets to the end in time. tests/unit/host/test_kvm_probe.py assembles it and compares.
#
#   as -o probe.o kvm_probe.S && ld -N -Ttext 0x7c00 --oformat binary -o probe.bin probe.o

        .code16
        .globl  _start
_start: cli
        xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movw    $0x7c00, %sp

        # page tables at 0x1000 (PML4), 0x2000 (PDPT), 0x3000 (PD): the first 2 MiB, one to one
        cld
        movl    $0x1000, %edi
        movl    $0x0c00, %ecx
        xorl    %eax, %eax
        rep     stosl
        movl    $0x2003, 0x1000
        movl    $0x3003, 0x2000
        movl    $0x0083, 0x3000

        movl    $0x1000, %eax
        movl    %eax, %cr3
        movl    %cr4, %eax
        orl     $0x20, %eax             # PAE
        movl    %eax, %cr4
        movl    $0xc0000080, %ecx       # EFER
        rdmsr
        orl     $0x100, %eax            # long mode
        wrmsr
        lgdt    table
        movl    %cr0, %eax
        orl     $0x80000001, %eax       # protection and paging
        movl    %eax, %cr0
        ljmp    $8, $long

        .code64
long:   movl    $16, %eax
        movl    %eax, %ds
        movl    %eax, %ss
        movq    $100000000, %rcx
work:   decq    %rcx
        jnz     work
        movw    $0x604, %dx             # PM1a control, where SeaBIOS puts it
        movw    $0x2000, %ax            # SLP_EN: soft off
        outw    %ax, %dx
stop:   hlt
        jmp     stop

        .balign 8
gdt:    .quad   0
        .quad   0x00209a0000000000
        .quad   0x0000920000000000
table:  .word   . - gdt - 1
        .long   gdt

        .org    510
        .word   0xaa55
