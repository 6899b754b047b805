/*
 * rcu.c - registration, read sections and deferred functions on liburcu's memb flavour.
 *
 * Registration: a thread-local flag is looked at on each entry; the first time the thread is
 * registered and a pthread key is set whose destructor unregisters it. liburcu's own thread, which
 * runs deferred functions, is registered by liburcu: there only the flag is set.
 *
 * The barrier is a deferred function that wakes the caller. That is enough, because all deferred
 * functions run one after another, in the order in which they were given, on liburcu's one default
 * thread (we make no others). liburcu's own rcu_barrier() shares a counter of references with that
 * thread, in which ThreadSanitizer sees a race.
 *
 * ThreadSanitizer: liburcu orders memory by barriers that it doesn't see. Two edges are told: from
 * the end of a read section to the end of a later grace period, and from rcu_door_defer() to the
 * start of that function. The first is wider than the truth (any section, any later grace period),
 * so a race that only this edge hides goes unseen; none is invented.
 */

#if defined(__SANITIZE_THREAD__)
#    define UNDER_TSAN 1
#elif defined(__has_feature)
#    if __has_feature(thread_sanitizer)
#        define UNDER_TSAN 1
#    endif
#endif

/* The read side's inline functions; urcu/static/urcu-memb.h says that they are meant to be used so
 * by code under any licence. With DEBUG_RCU they check registration and balance. ThreadSanitizer
 * would see their assembler accesses as races: for it the same functions in the library. */
#ifndef UNDER_TSAN
#    define _LGPL_SOURCE
#endif

#include "store/base/rcu.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stddef.h>
#include <urcu/urcu-memb.h>

#ifdef UNDER_TSAN
#    include <sanitizer/tsan_interface.h>
#    define tell_release(at) __tsan_release(at)
#    define tell_acquire(at) __tsan_acquire(at)
static char section_ended; /* only its address means something */
#else
#    define tell_release(at) ((void)0)
#    define tell_acquire(at) ((void)0)
#endif

_Static_assert(sizeof(struct rcu_head) <= sizeof(((struct rcu_door_head *)0)->urcu),
               "liburcu's head has outgrown its room");
_Static_assert(_Alignof(struct rcu_head) <= _Alignof(void *), "liburcu's head must lie well");

/* Functions deferred by a thread in manual mode, oldest first. */
struct queue {
    bool on;
    struct rcu_door_head *first;
    struct rcu_door_head **end; /* where the next one is linked; NULL before the first use */
};

static _Thread_local struct queue manual;
static _Thread_local bool registered;

static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static pthread_key_t key;

static void unregister_thread(void *unused)
{
    (void)unused;
    /* A later destructor may open a section again: it registers anew and sets the key, and pthreads
     * comes back here. */
    registered = false;
    urcu_memb_unregister_thread();
}

static void make_key(void)
{
    int failed = pthread_key_create(&key, unregister_thread);
    assert(failed == 0);
}

/* Out of line, so that the entry is a test and a call that is never taken. */
static void __attribute__((noinline, cold)) register_thread(void)
{
    static char any_address;
    int failed = pthread_once(&key_once, make_key);
    assert(failed == 0);
    failed = pthread_setspecific(key, &any_address);
    assert(failed == 0);
    urcu_memb_register_thread();
    registered = true;
}

static inline void ensure_registered(void)
{
    if (__builtin_expect(!registered, 0)) {
        register_thread();
    }
}

void rcu_door_lock(void)
{
    ensure_registered();
    urcu_memb_read_lock();
}

void rcu_door_unlock(void)
{
    tell_release(&section_ended);
    urcu_memb_read_unlock();
}

bool rcu_door_is_locked(void)
{
    /* liburcu counts nesting in the thread's own word, which is 0 before registration too. */
    return urcu_memb_read_ongoing() != 0;
}

/* On liburcu's thread, after the grace period. */
static void run_deferred(struct rcu_head *urcu_head)
{
    struct rcu_door_head *head = (void *)((char *)urcu_head - offsetof(struct rcu_door_head, urcu));

    registered = true;
    tell_acquire(head);
    tell_acquire(&section_ended);
    head->reclaim(head);
}

static void enqueue(struct rcu_door_head *head)
{
    head->next = NULL;
    if (!manual.first) {
        manual.end = &manual.first;
    }
    *manual.end = head;
    manual.end = &head->next;
}

void rcu_door_defer(struct rcu_door_head *head, void (*reclaim)(struct rcu_door_head *head))
{
    head->reclaim = reclaim;
    if (manual.on) {
        enqueue(head);
        return;
    }
    /* call_rcu() opens a read section of its own. */
    ensure_registered();
    tell_release(head);
    urcu_memb_call_rcu((struct rcu_head *)head->urcu, run_deferred);
}

struct barrier {
    struct rcu_door_head head;
    sem_t reached;
};

static void reach(struct rcu_door_head *head)
{
    struct barrier *barrier = (void *)((char *)head - offsetof(struct barrier, head));
    int failed = sem_post(&barrier->reached);
    assert(failed == 0);
}

void rcu_door_barrier(void)
{
    struct barrier barrier;
    int failed;

    assert(!rcu_door_is_locked());
    if (manual.on) {
        while (rcu_door_reclaim()) {
        }
        return;
    }
    failed = sem_init(&barrier.reached, 0, 0);
    assert(failed == 0);
    rcu_door_defer(&barrier.head, reach);
    while (sem_wait(&barrier.reached) != 0) {
        assert(errno == EINTR);
    }
    failed = sem_destroy(&barrier.reached);
    assert(failed == 0);
}

void rcu_door_synchronize(void)
{
    assert(!rcu_door_is_locked());
    if (manual.on) {
        return; /* the only thread there is has no section open */
    }
    urcu_memb_synchronize_rcu();
    tell_acquire(&section_ended);
}

void rcu_door_set_manual(bool on)
{
    assert(!manual.first);
    manual.on = on;
}

bool rcu_door_reclaim(void)
{
    struct rcu_door_head *head = manual.first;

    assert(!rcu_door_is_locked());
    if (!head) {
        return false;
    }
    manual.first = head->next;
    head->reclaim(head);
    return true;
}
