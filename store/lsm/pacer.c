#include "store/lsm/pacer.h"

uint64_t pacer_book(struct pacer *pacer, uint64_t rate, uint64_t bytes, uint64_t now_us)
{
    if (pacer->paid_until_us + PACER_BURST_US < now_us) {
        pacer->paid_until_us = now_us - PACER_BURST_US;
    }
    pacer->paid_until_us += (uint64_t)((double)bytes * 1e6 / (double)rate);
    return pacer->paid_until_us;
}
