/* random.c - SplitMix64 and xoshiro256**. */
#include "tests/support/random.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static uint64_t run_seed;
static pthread_once_t run_seed_once = PTHREAD_ONCE_INIT;

static void choose_run_seed(void)
{
    const char *given = getenv("VARVE_TEST_SEED");

    if (given && given[0] != '\0') {
        char *end;
        errno = 0;
        run_seed = strtoull(given, &end, 0);
        if (errno != 0 || *end != '\0') {
            fprintf(stderr, "VARVE_TEST_SEED=%s is not a number\n", given);
            exit(2);
        }
    } else {
        ssize_t n = getrandom(&run_seed, sizeof run_seed, 0);
        assert(n == (ssize_t)sizeof run_seed);
    }
    fprintf(stderr, "VARVE_TEST_SEED=%" PRIu64 "\n", run_seed);
}

uint64_t test_seed(void)
{
    int failed = pthread_once(&run_seed_once, choose_run_seed);
    assert(failed == 0);
    return run_seed;
}

#define GOLDEN_GAMMA UINT64_C(0x9e3779b97f4a7c15)

uint64_t scramble64(uint64_t n)
{
    n += GOLDEN_GAMMA;
    n = (n ^ (n >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    n = (n ^ (n >> 27)) * UINT64_C(0x94d049bb133111eb);
    return n ^ (n >> 31);
}

static uint64_t rotate_left(uint64_t n, int by)
{
    return (n << by) | (n >> (64 - by));
}

void prng_init(struct prng *prng, uint64_t seed)
{
    for (size_t i = 0; i < 4; i++) {
        prng->state[i] = scramble64(seed + i * GOLDEN_GAMMA);
    }
}

uint64_t prng_next(struct prng *prng)
{
    uint64_t *s = prng->state;
    uint64_t result = rotate_left(s[1] * 5, 7) * 9;
    uint64_t shifted = s[1] << 17;

    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= shifted;
    s[3] = rotate_left(s[3], 45);
    return result;
}

uint64_t prng_below(struct prng *prng, uint64_t bound)
{
    uint64_t unfair = (0 - bound) % bound; /* 2^64 mod bound results would occur once too often */
    uint64_t n;

    assert(bound > 0);
    do {
        n = prng_next(prng);
    } while (n < unfair);
    return n % bound;
}

bool prng_chance(struct prng *prng, unsigned percent)
{
    return prng_below(prng, 100) < percent;
}

void prng_fill(struct prng *prng, void *into, size_t size)
{
    unsigned char *at = into;

    while (size > 0) {
        uint64_t n = prng_next(prng);
        size_t step = size < sizeof n ? size : sizeof n;
        memcpy(at, &n, step);
        at += step;
        size -= step;
    }
}

uint64_t test_flips(uint64_t all, uint64_t some)
{
    const char *wanted = getenv("VARVE_TEST_FLIPS");
    return some > all || (wanted && strcmp(wanted, "all") == 0) ? all : some;
}

uint64_t test_flip(struct prng *prng, uint64_t i, uint64_t all, uint64_t some)
{
    return test_flips(all, some) == all ? i : prng_below(prng, all);
}
