/*
 * rcu.h - the one door to userspace-RCU (memb flavour).
 *
 * Everything that follows a published pointer goes through here, for two reasons: a thread that
 * liburcu doesn't know gets no protection and no error, so the door registers each thread on its
 * first read section (and unregisters it when the thread ends); and ThreadSanitizer doesn't see
 * liburcu's ordering, so the door tells it (tsan builds only).
 *
 * Guarantees:
 *   1. What was reachable when rcu_door_lock() returned isn't reclaimed before the matching unlock.
 *   2. A function given to rcu_door_defer() runs after every read section that was open when it was
 *      given has ended.
 *   3. rcu_door_barrier() returns after every function given before it has run.
 *
 * Threads:   any thread; it may sleep inside a read section only if it holds up nobody: never wait
 *            for I/O, for a lock held over I/O or for another thread's progress there.
 * Ownership: the head lies in the object that is to be reclaimed.
 * Errors:    none; registration can't fail.
 * Source:    Desnoyers et al., "User-Level Implementations of Read-Copy Update", IEEE TPDS 2012.
 */
#ifndef VARVE_STORE_BASE_RCU_H
#define VARVE_STORE_BASE_RCU_H

#include <stdbool.h>

struct rcu_door_head {
    struct rcu_door_head *next;
    void (*reclaim)(struct rcu_door_head *head);
    /* Room for liburcu's own head, checked by a static assertion. */
    void *urcu[2];
};

/* Opens and closes a read section; sections nest. Any thread. */
void rcu_door_lock(void);
void rcu_door_unlock(void);

/* True inside a read section of this thread: for assertions. */
bool rcu_door_is_locked(void);

/* Runs reclaim(head) once no read section that is open now is left; on liburcu's own thread, or in
 * manual mode (below) by rcu_door_reclaim(). Any thread, inside a read section or outside. */
void rcu_door_defer(struct rcu_door_head *head, void (*reclaim)(struct rcu_door_head *head));

/* Waits until everything deferred before the call has run. Any thread, outside read sections and
 * not from a deferred function. May block. */
void rcu_door_barrier(void);

/* Waits until every read section that is open now has ended. Same callers. May block. */
void rcu_door_synchronize(void);

/* Manual mode, for tests that run everything in one thread in a seeded order: deferred functions
 * are queued until rcu_door_reclaim() runs the oldest one; it returns false when there was none.
 * The caller is outside any read section. Set before any use; affects this thread's calls only. */
void rcu_door_set_manual(bool manual);
bool rcu_door_reclaim(void);

#endif
