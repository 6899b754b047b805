/* zipf.c - ranks by Zipf's law. */
#include "tests/bench/zipf.h"

#include <math.h>

static double zeta(uint64_t n)
{
    double sum = 0;
    for (uint64_t k = 1; k <= n; k++) {
        sum += pow((double)k, -ZIPF_THETA);
    }
    return sum;
}

void zipf_init(struct zipf *zipf, uint64_t n)
{
    double zeta_n = zeta(n);
    *zipf = (struct zipf){
        .n = n,
        .zeta_n = zeta_n,
        .alpha = 1 / (1 - ZIPF_THETA),
        .eta = (1 - pow(2 / (double)n, 1 - ZIPF_THETA)) / (1 - zeta(2) / zeta_n),
        .half = pow(0.5, ZIPF_THETA),
    };
}

uint64_t zipf_next(const struct zipf *zipf, struct prng *prng)
{
    double u = (double)(prng_next(prng) >> 11) * 0x1p-53;
    double scaled = u * zipf->zeta_n;
    if (scaled < 1) {
        return 0;
    }
    if (scaled < 1 + zipf->half) {
        return 1;
    }
    uint64_t rank = (uint64_t)((double)zipf->n * pow(zipf->eta * u - zipf->eta + 1, zipf->alpha));
    return rank < zipf->n ? rank : zipf->n - 1;
}
