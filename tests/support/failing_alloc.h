/*
 * failing_alloc.h - memory that runs out at the Nth allocation.
 *
 * A program that links varve_failing_alloc has the allocations of its own objects counted, and
 * fails those it asks for; shared libraries keep theirs. Helpers of tests (alloc.h) are spared.
 *
 * Threads:   arm and disarm: the test's thread, with no other allocating meanwhile, or it doesn't
 *            matter to the test which one meets the failure.
 * Ownership: nothing.
 * Errors:    none.
 */
#ifndef VARVE_TESTS_SUPPORT_FAILING_ALLOC_H
#define VARVE_TESTS_SUPPORT_FAILING_ALLOC_H

#include <stdbool.h>
#include <stdint.h>

/* From now on the `nth` allocation (from 1) and the n-1 behind it return NULL. `others_only`: this
 * thread's are neither counted nor failed. */
void failing_alloc_arm(uint64_t nth, uint64_t n, bool others_only);

/* None fails any more. Returns how many there were since failing_alloc_arm(). */
uint64_t failing_alloc_disarm(void);

#endif
