/*
 * kill_load.h - writers and readers over HTTP that tell a journal everything, until the server is
 * gone.
 *
 * Writers put, delete, and put under conditions, each its own keys, and assert the answer, which
 * they know: nobody else writes those keys. Readers get all keys, and send conditions that can't
 * hold, whose refusals tell the current ETag. A write may also be refused as the disk is full (not
 * a delete) or the log has failed, or its outcome be unknown.
 *
 * Threads:   the test's.
 * Ownership: load_join() frees it.
 * Errors:    what is wrong goes to the journal.
 */
#ifndef VARVE_TESTS_CRASH_KILL_LOAD_H
#define VARVE_TESTS_CRASH_KILL_LOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/crash/kill_journal.h"

struct load;

/* Starts the threads, each with a connection of its own. */
struct load *load_start(struct journal *journal, size_t n_keys, const struct server *server,
                        uint64_t seed);

/* Waits until so many writes have been sent since the start, or a violation was found. */
void load_wait_sent(struct load *load, uint64_t n);

/* So many writes have been sent. */
uint64_t load_sent(struct load *load);

/* Waits for the threads, which end when the server is gone. */
void load_join(struct load *load);

/* Gets every key and compares with the journal. `first`: for the first time after a restart. */
void load_check_all(struct journal *journal, size_t n_keys, struct client *client, bool first);

#endif
