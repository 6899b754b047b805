/*
 * rcu.c - registration, read sections and deferred functions on liburcu's memb flavour.
 *
 * Registration: a thread-local flag is looked at on each entry; the first time the thread is
 * registered and a pthread key is set whose destructor unregisters it. liburcu's own thread, which
 * runs deferred functions, is registered by liburcu: there only the flag is set.
 *
 * ThreadSanitizer: liburcu orders memory by barriers that it doesn't see. Three edges are told:
 *   end of a read section   -> end of a later grace period
 *   rcu_door_defer()        -> start of that deferred function
 *   end of a deferred function -> end of a later barrier
 * The first and third are wider than the truth (any section, any function), so a race that only
 * such an edge hides would go unseen; none is invented.
 */

/* The read side's inline functions; urcu/static/urcu-memb.h says that they are meant to be used so
 * by code under any licence. With DEBUG_RCU they check registration and balance. */
#define _LGPL_SOURCE

#include "store/base/rcu.h"

#include <assert.h>
#include <pthread.h>
#include <stddef.h>
#include <urcu/urcu-memb.h>

#if defined(__SANITIZE_THREAD__)
#    define UNDER_TSAN 1
#elif defined(__has_feature)
#    if __has_feature(thread_sanitizer)
#        define UNDER_TSAN 1
#    endif
#endif

#ifdef UNDER_TSAN
#    include <sanitizer/tsan_interface.h>
#    define tell_release(at) __tsan_release(at)
#    define tell_acquire(at) __tsan_acquire(at)
static char section_ended, function_ended; /* only their addresses mean something */
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
    tell_release(&function_ended);
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

void rcu_door_barrier(void)
{
    assert(!rcu_door_is_locked());
    if (manual.on) {
        while (rcu_door_reclaim()) {
        }
        return;
    }
    urcu_memb_barrier();
    tell_acquire(&function_ended);
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
