#include "tests/support/stepper.h"

#include <signal.h>
#include <string.h>
#include <ucontext.h>

#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)

#    define TRAP_FLAG 0x100ul

static volatile unsigned long left; /* instructions until the interruption; 0: it was */
static void (*interruption)(void *arg);
static void *interruption_arg;

static void on_trap(int signal, siginfo_t *info, void *context)
{
    ucontext_t *at = context;
    (void)signal;
    (void)info;
    if (left > 0 && --left == 0) {
        at->uc_mcontext.gregs[REG_EFL] &= ~(greg_t)TRAP_FLAG;
        interruption(interruption_arg);
    }
}

bool stepper_works(void)
{
    return true;
}

bool stepper_run(void (*body)(void *arg), void (*interrupt)(void *arg), void *arg, unsigned long at)
{
    struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO}, before;
    interruption = interrupt;
    interruption_arg = arg;
    left = at;
    sigaction(SIGTRAP, &action, &before);
    /* Past the red zone, in which the compiler may keep something. */
    __asm__ volatile("lea -128(%%rsp), %%rsp\n\t"
                     "pushfq\n\t"
                     "orq %0, (%%rsp)\n\t"
                     "popfq\n\t"
                     "lea 128(%%rsp), %%rsp" ::"i"(TRAP_FLAG)
                     : "memory", "cc");
    body(arg);
    __asm__ volatile("lea -128(%%rsp), %%rsp\n\t"
                     "pushfq\n\t"
                     "andq %0, (%%rsp)\n\t"
                     "popfq\n\t"
                     "lea 128(%%rsp), %%rsp" ::"i"(~TRAP_FLAG)
                     : "memory", "cc");
    bool interrupted = left == 0;
    left = 0;
    sigaction(SIGTRAP, &before, NULL);
    return interrupted;
}

#else

bool stepper_works(void)
{
    return false;
}

bool stepper_run(void (*body)(void *arg), void (*interrupt)(void *arg), void *arg, unsigned long at)
{
    (void)interrupt;
    (void)at;
    body(arg);
    return false;
}

#endif
