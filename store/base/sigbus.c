/*
 * sigbus.c - the handler, and the chain of guards of each thread.
 *
 * SIGBUS from a mapping is synchronous: the handler runs on the thread that touched the page,
 * between two of its instructions, so it may read and write the thread's own chain without further
 * ado. What it uses beside that is async-signal-safe: pthread_sigmask, sigaction, raise,
 * siglongjmp.
 */
#include "store/base/sigbus.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <ucontext.h>
#include <unistd.h>

static _Thread_local struct sigbus_guard *innermost;

static pthread_mutex_t install_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct sigaction previous; /* what SIGBUS did before: the default, or a sanitizer's report */
static uintptr_t page_mask;

/* Pages fail as a whole, and a vector load may begin before the range's first byte on its page. */
static bool covers(const struct sigbus_guard *guard, uintptr_t address)
{
    uintptr_t begin = (uintptr_t)guard->data;
    uintptr_t last = begin + (guard->size - 1);

    return guard->size > 0 && address >= (begin & ~page_mask) && address <= (last | page_mask);
}

static void on_sigbus(int number, siginfo_t *info, void *context)
{
    const ucontext_t *interrupted = context;
    struct sigbus_guard *guard = info->si_code > 0 ? innermost : NULL;

    while (guard && !covers(guard, (uintptr_t)info->si_addr)) {
        guard = guard->outer;
    }
    if (guard) {
        /* Guards inside this one go with the frames that are jumped over. */
        innermost = guard->outer;
        /* The jump doesn't restore the mask. */
        (void)pthread_sigmask(SIG_SETMASK, &interrupted->uc_sigmask, NULL);
        siglongjmp(guard->jump, 1);
    }
    /* Nobody expects this one. Under the previous action the instruction is tried again and fails
     * again, so that a core dump shows the place; a signal that was sent has to be sent again. */
    (void)sigaction(number, &previous, NULL);
    if (info->si_code <= 0) {
        (void)raise(number);
    }
}

void sigbus_install(void)
{
    struct sigaction action = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_NODEFER};
    struct sigaction present;
    long page_bytes = sysconf(_SC_PAGESIZE);
    int failed;

    assert(page_bytes > 0);
    failed = pthread_mutex_lock(&install_mutex);
    assert(failed == 0);
    failed = sigaction(SIGBUS, NULL, &present);
    assert(failed == 0);
    if ((present.sa_flags & SA_SIGINFO) == 0 || present.sa_sigaction != on_sigbus) {
        page_mask = (uintptr_t)page_bytes - 1;
        previous = present;
        failed = sigemptyset(&action.sa_mask);
        assert(failed == 0);
        failed = sigaction(SIGBUS, &action, NULL);
        assert(failed == 0);
    }
    failed = pthread_mutex_unlock(&install_mutex);
    assert(failed == 0);
}

void sigbus_guard_push(struct sigbus_guard *guard, const void *data, size_t size)
{
    guard->data = data;
    guard->size = size;
    guard->outer = innermost;
    /* The handler must find a complete guard. */
    atomic_signal_fence(memory_order_seq_cst);
    innermost = guard;
}

void sigbus_guard_leave(struct sigbus_guard *guard)
{
    assert(innermost == guard);
    innermost = guard->outer;
    /* No read of the guarded range may sink below this line. */
    atomic_signal_fence(memory_order_seq_cst);
}
