/*
 * dir_check.h - asserts that a data directory that no server has open is in order.
 *
 * Threads:   the test's.
 * Ownership: nothing is kept.
 * Errors:    damage fails the test, and so does what `clean` says.
 */
#ifndef VARVE_TESTS_CRASH_DIR_CHECK_H
#define VARVE_TESTS_CRASH_DIR_CHECK_H

#include <stdbool.h>

/* Reads every byte of it. `clean`: the server had ended as it should, so that not even a file is
 * left over or an end torn. */
void check_dir_in_order(const char *dir, bool clean);

#endif
