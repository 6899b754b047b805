/*
 * slowdown.h - slows writes down before they have to stop.
 *
 * While a compaction works, level 0 grows by what is flushed meanwhile, and at ENGINE_LEVEL0_STOP
 * tables writes stop until it is done. Rather than run at full speed into that wall, writes are let
 * in at the rate that uses up what room is left just when the compaction will be done: a longer
 * wait for many in place of a very long one for some.
 *
 * Threads:   slowdown_set(): compaction thread; the others: any thread.
 * Ownership: a plain value, all zero at first: no limit.
 * Errors:    none.
 */
#ifndef VARVE_STORE_LSM_SLOWDOWN_H
#define VARVE_STORE_LSM_SLOWDOWN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define SLOWDOWN_BURST_US UINT64_C(10000) /* unused time that the rate makes good */

struct slowdown {
    _Atomic uint64_t rate;          /* bytes a second; 0: no limit */
    _Atomic uint64_t paid_until_us; /* what was let in so far is paid for until then */
};

/* What is left to do before level 0 gets shorter. */
struct slowdown_outlook {
    uint64_t room_bytes;     /* that may still be written before writes stop */
    uint64_t work_bytes;     /* that compaction still reads and writes */
    uint64_t bytes_a_second; /* of compaction lately; 0: not known, and then there is no limit */
    uint64_t least_a_second; /* the rate is never less */
};

uint64_t slowdown_rate(const struct slowdown_outlook *outlook);

static inline void slowdown_set(struct slowdown *slowdown, uint64_t rate)
{
    atomic_store_explicit(&slowdown->rate, rate, memory_order_relaxed);
}

static inline uint64_t slowdown_limit(const struct slowdown *slowdown)
{
    return atomic_load_explicit(&slowdown->rate, memory_order_relaxed);
}

/* Whether a write may be let in at `now_us`, whatever its size. */
static inline bool slowdown_allows(const struct slowdown *slowdown, uint64_t now_us)
{
    return slowdown_limit(slowdown) == 0 ||
           now_us >= atomic_load_explicit(&slowdown->paid_until_us, memory_order_relaxed);
}

/* A write of so many bytes was let in. */
void slowdown_pay(struct slowdown *slowdown, uint64_t now_us, uint64_t bytes);

#endif
