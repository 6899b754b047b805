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

void slowdown_init(struct slowdown *slowdown)
{
    *slowdown = (struct slowdown){.rate = 0};
    pthread_mutex_init(&slowdown->mutex, NULL);
}

void slowdown_release(struct slowdown *slowdown)
{
    pthread_mutex_destroy(&slowdown->mutex);
}

/* Pays off what the rate has allowed since the last look. Under the mutex. */
static void settle(struct slowdown *slowdown, uint64_t now_us)
{
    double rate_us = (double)slowdown_limit(slowdown) / 1e6;
    if (now_us > slowdown->at_us) { /* threads may come with times in another order */
        slowdown->debt_bytes -= rate_us * (double)(now_us - slowdown->at_us);
        slowdown->at_us = now_us;
    }
    double least = -rate_us * SLOWDOWN_BURST_US;
    slowdown->debt_bytes = slowdown->debt_bytes < least ? least : slowdown->debt_bytes;
}

void slowdown_set(struct slowdown *slowdown, uint64_t now_us, uint64_t rate)
{
    if (rate == slowdown_limit(slowdown)) {
        return;
    }
    pthread_mutex_lock(&slowdown->mutex);
    settle(slowdown, now_us);
    atomic_store_explicit(&slowdown->rate, rate, memory_order_relaxed);
    if (rate == 0) {
        slowdown->debt_bytes = 0;
    }
    pthread_mutex_unlock(&slowdown->mutex);
}

bool slowdown_allows(struct slowdown *slowdown, uint64_t now_us)
{
    if (slowdown_limit(slowdown) == 0) {
        return true;
    }
    pthread_mutex_lock(&slowdown->mutex);
    settle(slowdown, now_us);
    bool allows = slowdown->debt_bytes <= 0;
    pthread_mutex_unlock(&slowdown->mutex);
    return allows;
}

void slowdown_pay(struct slowdown *slowdown, uint64_t now_us, uint64_t bytes)
{
    if (slowdown_limit(slowdown) == 0) {
        return;
    }
    pthread_mutex_lock(&slowdown->mutex);
    settle(slowdown, now_us);
    slowdown->debt_bytes += (double)bytes;
    pthread_mutex_unlock(&slowdown->mutex);
}
