# A paravirtualized guest of Xen's that powers off when it is asked to; see xen_tiny.py.
#
#   as -o tiny.o tiny-xen.S && objcopy -O binary -j .text tiny.o tiny.bin
#
# It maps xenstore's ring and the page that it shares with Xen over the two pages behind its own, and
# asks xenstore for control/shutdown until there is something in it; that it empties, as Linux does,
# and powers off. A call of Xen's is a syscall, and nothing interrupts a guest that has asked for none.

    .set STORE, 0x2000
    .set SHARED, 0x3000
    .set BASE, 0x1000
    .code64
    .text
start:
    mov $BASE + 0x1000, %esp
    mov 0x40(%rsi), %eax            # the port of the store
    mov %eax, BASE + port - start
    mov 0x28(%rsi), %rbx            # where the shared page is
    mov 0x38(%rsi), %rsi            # and the frame of the store's ring
    shl $12, %rsi
    mov $STORE, %edi
    call map
    mov %rbx, %rsi
    mov $SHARED, %edi
    call map
1:  mov $2, %al                     # XS_READ
    call ask
    test %al, %al                   # is there something?
    je 1b
    mov $11, %al                    # XS_WRITE, of nothing
    call ask
    xor %edx, %edx
    mov $BASE + zero - start, %esi
    mov $2, %edi                    # SCHEDOP_shutdown
    jmp sched
map:
    or $7, %rsi
    mov $2, %edx
    mov $14, %eax                   # update_va_mapping
    syscall
    ret
ask:
    mov %al, BASE + message - start
    mov STORE + 2052, %ebx          # req_prod
    xor %esi, %esi
2:  mov BASE + message - start(%rsi), %al
    mov %ebx, %edx
    and $1023, %edx
    mov %al, STORE(%rdx)
    inc %ebx
    inc %esi
    cmp $end - message, %esi
    jb 2b
    mov %ebx, STORE + 2052
    mov $BASE + port - start, %esi
    mov $4, %edi                    # EVTCHNOP_send
    mov $32, %eax
    syscall
3:  rdtsc                           # the time, if one tick is a nanosecond
    shl $32, %rdx
    or %rdx, %rax
    sub SHARED + 40, %rax
    add SHARED + 48, %rax
    add $200000000, %rax
    mov %rax, BASE + poll - start + 16
    mov $BASE + poll - start, %esi
    mov $3, %edi                    # SCHEDOP_poll
    call sched
    mov STORE + 2056, %ebx          # rsp_cons
    mov STORE + 2060, %edx          # rsp_prod
    cmp %ebx, %edx
    je 3b
    add $12, %ebx                   # the length of its answer
    and $1023, %ebx
    mov STORE + 1024(%rbx), %al
    mov %edx, STORE + 2056
    ret
sched:
    mov $29, %eax
    syscall
    ret
    .balign 8
poll: .quad 0, 0, 0                 # ports, how many, until
zero: .long 0
port: .long 0
message: .long 0, 0, 0, 17
    .asciz "control/shutdown"
end:
