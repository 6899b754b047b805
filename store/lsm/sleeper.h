/*
 * sleeper.h - one thread that sleeps until another has work for it, without a lost wake-up.
 *
 * Who brings work makes it visible (release), then calls sleeper_wake(), which has a full fence
 * before it looks whether the thread sleeps. Who sleeps announces it, has a full fence, and looks
 * for work once more through `ready` before it really sleeps. So at least one of the two sees the
 * other.
 *
 * Threads:   wake: any thread. Wait: the one thread.
 * Ownership: a plain value in its owner's struct.
 * Errors:    none.
 */
#ifndef VARVE_STORE_LSM_SLEEPER_H
#define VARVE_STORE_LSM_SLEEPER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct sleeper {
    _Atomic bool asleep;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
};

void sleeper_init(struct sleeper *sleeper);
void sleeper_release(struct sleeper *sleeper);

/* Cheap while the thread is awake: a fence and a load. */
void sleeper_wake(struct sleeper *sleeper);

/* Sleeps until woken or `timeout_ms` has passed (UINT64_MAX: for ever), unless ready(arg) is true
 * already. May also return early. */
void sleeper_wait(struct sleeper *sleeper, bool (*ready)(void *arg), void *arg,
                  uint64_t timeout_ms);

#endif
