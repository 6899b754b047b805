/*
 * stepper.h - something happens between any two instructions of a function.
 *
 * The function runs with the processor's trap flag set, and at its Nth instruction another function
 * runs, in a signal handler on the same thread: as if that thread had been preempted there and
 * another one had done all that. For code that takes no lock and allocates nothing, on x86-64.
 *
 * Threads:   one at a time.
 * Ownership: none.
 * Errors:    none.
 */
#ifndef VARVE_TESTS_SUPPORT_STEPPER_H
#define VARVE_TESTS_SUPPORT_STEPPER_H

#include <stdbool.h>

/* True where this works. */
bool stepper_works(void);

/* Calls body(arg), and interrupt(arg) before its instruction number `at`, from 1. Returns false if
 * it has fewer instructions: then it was not interrupted. */
bool stepper_run(void (*body)(void *arg), void (*interrupt)(void *arg), void *arg,
                 unsigned long at);

#endif
