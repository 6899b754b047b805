#include "store/lsm/slowdown.h"

uint64_t slowdown_rate(const struct slowdown_outlook *outlook)
{
    if (outlook->bytes_a_second == 0 || outlook->work_bytes == 0) {
        return 0;
    }
    double seconds = (double)outlook->work_bytes / (double)outlook->bytes_a_second;
    double rate = (double)outlook->room_bytes / seconds;
    if (rate >= (double)UINT32_MAX * 1024) {
        return 0; /* more than can come */
    }
    return rate > (double)outlook->least_a_second ? (uint64_t)rate : outlook->least_a_second;
}

void slowdown_pay(struct slowdown *slowdown, uint64_t now_us, uint64_t bytes)
{
    uint64_t rate = slowdown_limit(slowdown);
    if (rate == 0) {
        return;
    }
    uint64_t costs_us = (uint64_t)((double)bytes * 1e6 / (double)rate);
    uint64_t paid = atomic_load_explicit(&slowdown->paid_until_us, memory_order_relaxed), next;
    do {
        uint64_t from = now_us > SLOWDOWN_BURST_US ? now_us - SLOWDOWN_BURST_US : 0;
        next = (paid > from ? paid : from) + costs_us;
    } while (!atomic_compare_exchange_weak_explicit(&slowdown->paid_until_us, &paid, next,
                                                    memory_order_relaxed, memory_order_relaxed));
}
