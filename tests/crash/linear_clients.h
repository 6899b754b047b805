/*
 * linear_clients.h - clients over HTTP that do whatever they like on a few keys, and record it.
 *
 * Each has a connection of its own, which it keeps, and draws what to do next: GET, conditional
 * GET, lists, PUT, DELETE, under If-Match and If-None-Match or without. Tags are those that any of
 * them was told last, or the one before. They end when the server doesn't answer any more.
 *
 * Threads:   the test's.
 * Ownership: crowd_free() frees all; the history is borrowed.
 * Errors:    an answer that is wrong whatever the history, such as a wrong byte, is kept as the
 *            crowd's violation.
 */
#ifndef VARVE_TESTS_CRASH_LINEAR_CLIENTS_H
#define VARVE_TESTS_CRASH_LINEAR_CLIENTS_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/http/support.h"
#include "tests/support/linear.h"

enum { CROWD_CLIENTS_MAX = 8 };

struct crowd_plan {
    unsigned number; /* of the history: makes its keys */
    unsigned clients, keys;
    bool lists;  /* lists connect the keys: they are checked together */
    bool upkeep; /* now and then a client asks for a flush or a compaction */
    bool large;  /* values that fill memtables */
    uint64_t seed;
};

struct crowd;

struct crowd *crowd_new(const struct crowd_plan *plan, struct linear_history *history);
void crowd_free(struct crowd *crowd);

/* Lets all clients loose on the server, until it is gone. */
void crowd_start(struct crowd *crowd, const struct server *server);

/* Waits until so many more operations were sent, or a client has ended. */
void crowd_wait_sent(struct crowd *crowd, uint64_t n);

/* Waits for all clients to end. */
void crowd_join(struct crowd *crowd);

/* Reads every key from the test's thread. */
void crowd_read_all(struct crowd *crowd, const struct server *server);

/* How many flushes and compactions were asked for and done. */
unsigned crowd_upkeep(const struct crowd *crowd);

/* What is wrong, or NULL; lives as long as the crowd. */
const char *crowd_violation(const struct crowd *crowd);

#endif
