/*
 * finding.h - one finding of `varve check` or `varve salvage` as a line.
 *
 * Threads:   the main thread.
 * Ownership: nothing is owned.
 * Errors:    none; ferror() of standard output tells.
 */
#ifndef SERVICE_FINDING_H
#define SERVICE_FINDING_H

#include "store/lsm/check.h"

/* "damage: FILE, offset 4096, keys from "a" up to but without "b": what is wrong". `word` is the
 * first one. */
void finding_print(const char *word, const struct check_finding *finding);

/* "1 table", "2 tables": for one, a number and the word, else with an s. */
void finding_print_count(uint64_t n, const char *word);

#endif
