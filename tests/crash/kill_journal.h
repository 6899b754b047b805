/*
 * kill_journal.h - what clients sent, were told and saw: what a killed server is measured by.
 *
 * Each key has one writer, which has at most one write of it under way and numbers the writes that
 * may change it: version 0 is "not there". Of each version the journal knows whether it was SENT,
 * ACKED (a 2xx came) or SEEN (someone read it). At any time, after a crash as well,
 *
 *     max(ACKED, SEEN) ≤ what is there ≤ max(SENT)
 *
 * A write that was answered with a refusal must never be seen, nor one that a crash took back.
 * ETags belong to versions: no two of a key share one, and none changes.
 *
 * Threads:   any thread; each call locks the journal for a moment.
 * Ownership: journal_free() frees all.
 * Errors:    what breaks a promise is kept as the journal's violation: the first one counts. Only
 *            the test's thread turns it into a failure.
 */
#ifndef VARVE_TESTS_CRASH_KILL_JOURNAL_H
#define VARVE_TESTS_CRASH_KILL_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/http/support.h"

enum { JOURNAL_TAG_BYTES = 48 };

/* What a version makes of its key. */
enum journal_effect {
    JOURNAL_VALUE,
    JOURNAL_ABSENT,
    JOURNAL_NOTHING, /* refused, or lost in a crash: it must not be seen (again) */
};

struct journal;

struct journal *journal_new(size_t n_keys);
void journal_free(struct journal *journal); /* NULL is allowed */

/* "/kv/kill/17": where the key is. */
void journal_path(size_t key, char ret_path[32]);

/* The value of a version: its size (at least 8), and its bytes. */
size_t journal_value_size(size_t key, uint64_t version);
void journal_fill(size_t key, uint64_t version, void *into);

/* What the key's writer knows: whether it is there, and its ETag. No write of it is under way. */
bool journal_present(struct journal *journal, size_t key, char ret_tag[JOURNAL_TAG_BYTES]);

/* SENT: numbers a write that is about to be sent. */
uint64_t journal_send(struct journal *journal, size_t key, enum journal_effect effect);
/* ACKED; `tag`: the ETag of a put. */
void journal_ack(struct journal *journal, size_t key, uint64_t version, const char *tag);
/* Answered with a refusal. */
void journal_refuse(struct journal *journal, size_t key, uint64_t version);

/* The least that a read begun now may see. */
uint64_t journal_bound(struct journal *journal, size_t key);
/* SEEN: the answer to a GET begun when journal_bound() was `bound`. */
void journal_read(struct journal *journal, size_t key, uint64_t bound, const struct reply *reply);
/* SEEN: a 412, begun likewise, which names the ETag or says by having none that nothing is there.
 */
void journal_refusal_seen(struct journal *journal, size_t key, uint64_t bound,
                          const struct reply *reply);

/* The server is down: how many writes have no answer, and how many reads saw something since the
 * last call. */
void journal_crash(struct journal *journal, uint64_t *ret_unanswered, uint64_t *ret_seen);

/* The first answer after a restart: what of the key survived. From then on that is what the key is.
 */
void journal_recover(struct journal *journal, size_t key, const struct reply *reply);
/* Any later one, without writes in between. `tag` may be NULL; size SIZE_MAX: not there. */
void journal_unchanged(struct journal *journal, size_t key, const char *tag, size_t size);

/* Keeps a violation. */
void journal_violation(struct journal *journal, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* The first violation, or NULL; lives as long as the journal. */
const char *journal_violated(struct journal *journal);

/* How many writes were acknowledged. */
uint64_t journal_acked(struct journal *journal);

#endif
