/*
 * pacer.h - how long background work has to wait so that it keeps to a rate.
 *
 * Work is done first and paid for by waiting after it. Time that wasn't used is made good for, up
 * to a burst.
 *
 * Threads:   one thread.
 * Ownership: a plain value; begins as zeros.
 * Errors:    none.
 */
#ifndef VARVE_STORE_LSM_PACER_H
#define VARVE_STORE_LSM_PACER_H

#include <stdint.h>

#define PACER_BURST_US UINT64_C(50000)

struct pacer {
    uint64_t paid_until_us; /* what was done so far takes until then at the given rate */
};

/* Books `bytes` that were done until `now_us`; returns when the next may be, at `rate` bytes a
 * second (> 0). */
uint64_t pacer_book(struct pacer *pacer, uint64_t rate, uint64_t bytes, uint64_t now_us);

#endif
