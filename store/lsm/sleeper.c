#include "store/lsm/sleeper.h"

#include <errno.h>
#include <time.h>

void sleeper_init(struct sleeper *sleeper)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&sleeper->cond, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&sleeper->mutex, NULL);
    atomic_init(&sleeper->asleep, false);
}

void sleeper_release(struct sleeper *sleeper)
{
    pthread_cond_destroy(&sleeper->cond);
    pthread_mutex_destroy(&sleeper->mutex);
}

void sleeper_wake(struct sleeper *sleeper)
{
    /* The caller's work is stored before this load of `asleep`; sleeper_wait() has the mirror
     * image. */
    atomic_thread_fence(memory_order_seq_cst);
    if (!atomic_load_explicit(&sleeper->asleep, memory_order_relaxed)) {
        return;
    }
    pthread_mutex_lock(&sleeper->mutex);
    atomic_store_explicit(&sleeper->asleep, false, memory_order_relaxed);
    pthread_cond_signal(&sleeper->cond);
    pthread_mutex_unlock(&sleeper->mutex);
}

static struct timespec time_after_ms(uint64_t timeout_ms)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec += (time_t)(timeout_ms / 1000);
    at.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
    if (at.tv_nsec >= 1000000000) {
        at.tv_nsec -= 1000000000;
        at.tv_sec++;
    }
    return at;
}

void sleeper_wait(struct sleeper *sleeper, bool (*ready)(void *arg), void *arg, uint64_t timeout_ms)
{
    struct timespec until = {0};
    if (timeout_ms != UINT64_MAX) {
        until = time_after_ms(timeout_ms);
    }
    pthread_mutex_lock(&sleeper->mutex);
    atomic_store_explicit(&sleeper->asleep, true, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
    if (!ready(arg)) {
        while (atomic_load_explicit(&sleeper->asleep, memory_order_relaxed)) {
            if (timeout_ms == UINT64_MAX) {
                pthread_cond_wait(&sleeper->cond, &sleeper->mutex);
            } else if (pthread_cond_timedwait(&sleeper->cond, &sleeper->mutex, &until) ==
                       ETIMEDOUT) {
                break;
            }
        }
    }
    atomic_store_explicit(&sleeper->asleep, false, memory_order_relaxed);
    pthread_mutex_unlock(&sleeper->mutex);
}
