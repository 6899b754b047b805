/*
 * zipf.h - random ranks of which the k-th has a chance proportional to 1 / k^0.99.
 *
 * Threads:   any thread once it was initialized.
 * Ownership: a plain value.
 * Errors:    none.
 * Source:    Gray et al., "Quickly Generating Billion-Record Synthetic Databases", SIGMOD 1994;
 * with the constant of Cooper et al., "Benchmarking Cloud Serving Systems with YCSB", SoCC 2010. It
 * is exact for the first two ranks and an approximation for the rest.
 */
#ifndef VARVE_TESTS_BENCH_ZIPF_H
#define VARVE_TESTS_BENCH_ZIPF_H

#include <stdint.h>

#include "tests/support/random.h"

#define ZIPF_THETA 0.99

struct zipf {
    uint64_t n;
    double zeta_n, alpha, eta, half; /* as the paper has them; half: 0.5^theta */
};

/* For ranks below `n`, which is 2 or more. Takes time in proportion to n. */
void zipf_init(struct zipf *zipf, uint64_t n);

/* A rank; 0 is the most frequent one. */
uint64_t zipf_next(const struct zipf *zipf, struct prng *prng);

#endif
