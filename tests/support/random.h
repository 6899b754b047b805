/*
 * random.h - numbers that look random and are the same for the same seed.
 *
 * Threads:   any thread; a struct prng belongs to one at a time.
 * Ownership: plain values.
 * Errors:    none; a VARVE_TEST_SEED that is no number ends the program.
 * Source:    Blackman and Vigna, "Scrambled Linear Pseudorandom Number Generators" (xoshiro256**),
 *            seeded by Steele, Lea and Flood's SplitMix.
 */
#ifndef VARVE_TESTS_SUPPORT_RANDOM_H
#define VARVE_TESTS_SUPPORT_RANDOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct prng {
    uint64_t state[4];
};

/* The seed of this run: VARVE_TEST_SEED where it is set, otherwise of the kernel's randomness.
 * Prints it to stderr on the first call, in the form that takes it back; the same for the whole
 * run. */
uint64_t test_seed(void);

/* Equal seeds give equal sequences, any two others unrelated ones. */
void prng_init(struct prng *prng, uint64_t seed);

/* How many of `all` places a test damages: `some`, or with VARVE_TEST_FLIPS=all every one. */
uint64_t test_flips(uint64_t all, uint64_t some);

/* The next of them: place number `i` where all are taken, else a random one. */
uint64_t test_flip(struct prng *prng, uint64_t i, uint64_t all, uint64_t some);

/* 64 random bits. */
uint64_t prng_next(struct prng *prng);

/* Uniform in [0, bound); bound > 0. */
uint64_t prng_below(struct prng *prng, uint64_t bound);

/* True `percent` times in a hundred. */
bool prng_chance(struct prng *prng, unsigned percent);

void prng_fill(struct prng *prng, void *into, size_t size);

/* One number scrambled: a hash for seeds that are made of several numbers. */
uint64_t scramble64(uint64_t n);

#endif
