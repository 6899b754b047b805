/*
 * slowdown.h - slows writes down before they have to stop.
 *
 * While a compaction works, level 0 grows by what is flushed meanwhile, and at ENGINE_LEVEL0_STOP
 * tables writes stop until it is done. Rather than run at full speed into that wall, writes are let
 * in at the rate that uses up what room is left just when the compaction will be done: a longer
 * wait for many in place of a very long one for some.
 *
 * What was let in is a debt in bytes, paid off at the present rate. A write comes in when there is
 * no debt, whatever its size.
 *
 * Threads:   slowdown_set(): compaction thread; the others: any thread. The mutex is taken only
 *            while there is a limit.
 * Ownership: slowdown_release() ends what slowdown_init() began.
 * Errors:    none.
 */
#ifndef VARVE_STORE_LSM_SLOWDOWN_H
#define VARVE_STORE_LSM_SLOWDOWN_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define SLOWDOWN_BURST_US 10000.0 /* unused time that the rate makes good */

struct slowdown {
    _Atomic uint64_t rate; /* bytes a second; 0: no limit */
    pthread_mutex_t mutex; /* of what follows */
    double debt_bytes;     /* below 0: time that wasn't used */
    uint64_t at_us;        /* when the debt was so */
};

/* What is left to do before level 0 gets shorter. */
struct slowdown_outlook {
    uint64_t room_bytes;     /* that may still be written before writes stop */
    uint64_t work_bytes;     /* that compaction still reads and writes */
    uint64_t bytes_a_second; /* of compaction lately; 0: not known, and then there is no limit */
    uint64_t least_a_second; /* the rate is never less */
};

uint64_t slowdown_rate(const struct slowdown_outlook *outlook);

void slowdown_init(struct slowdown *slowdown);
void slowdown_release(struct slowdown *slowdown);

/* A new rate from `now_us` on; 0 also forgives the debt. */
void slowdown_set(struct slowdown *slowdown, uint64_t now_us, uint64_t rate);

static inline uint64_t slowdown_limit(const struct slowdown *slowdown)
{
    return atomic_load_explicit(&slowdown->rate, memory_order_relaxed);
}

/* Whether a write may be let in at `now_us`. */
bool slowdown_allows(struct slowdown *slowdown, uint64_t now_us);

/* A write of so many bytes was let in. */
void slowdown_pay(struct slowdown *slowdown, uint64_t now_us, uint64_t bytes);

#endif
