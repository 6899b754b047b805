/*
 * linear.h - histories of concurrent operations on a few keys, and whether they are linearizable.
 *
 * Clients say when an operation begins (linear_call()) and how it was answered; linear_check() then
 * looks for an order in which every operation takes effect at one moment between the two, so that
 * each answer is what a map from keys to values would have said. Without such an order the store
 * broke its promise, and the report names the answer that none explains.
 *
 * An operation has a step for each of its keys; all steps see the same moment, and take effect
 * together or, if the condition of one fails, not at all. Each put of a history has a value of its
 * own, named by a number, and makes a version with a tag (an ETag) of its own. Who got no answer
 * doesn't know the tag; another answer may reveal it later, with the value or, where a condition
 * was refused, without it. Only a put whose tag nobody was told with its value can then be meant.
 *
 * What got no answer *maybe* happens: at any moment after its call, or never. Once the process that
 * it was sent to is gone (linear_down()) it has happened or never will: after a crash, what was
 * there when the store came back must stay, and what wasn't must not come back later.
 *
 * Threads:   recording: any thread, a mutex gives the order of time. Checking: one thread, when
 *            nobody records any more.
 * Ownership: linear_free() frees all. Steps are copied.
 * Errors:    wrong use and running out of memory end the program.
 * Source:    Wing and Gong, "Testing and Verifying Concurrent Objects" (1993); Lowe, "Testing for
 *            Linearizability" (2017), whose configurations are remembered here.
 */
#ifndef VARVE_TESTS_SUPPORT_LINEAR_H
#define VARVE_TESTS_SUPPORT_LINEAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    LINEAR_KEYS_MAX = 8,   /* of a history, numbered from 0 */
    LINEAR_STEPS_MAX = 8,  /* of an operation, each on another key */
    LINEAR_OPEN_MAX = 64,  /* operations under way at one moment, those that never end included */
    LINEAR_FREE_TAGS = 32, /* tags on the same keys that nobody was told with the value */
};

enum linear_effect { LINEAR_READ, LINEAR_PUT, LINEAR_DELETE };

enum linear_condition {
    LINEAR_ALWAYS,
    LINEAR_IF_ABSENT,  /* If-None-Match: * */
    LINEAR_IF_PRESENT, /* If-Match: * */
    LINEAR_IF_MATCH,   /* If-Match with `tag` */
};

/* What the answer says of the key before the operation. */
enum linear_met { LINEAR_NOT_TOLD, LINEAR_ABSENT, LINEAR_PRESENT };

struct linear_step {
    unsigned key;
    enum linear_effect effect;
    enum linear_condition condition;
    uint64_t tag;   /* of LINEAR_IF_MATCH */
    uint32_t value; /* of a put */

    /* The answer; 0: not told. */
    enum linear_met met;
    uint32_t met_value; /* of LINEAR_PRESENT */
    uint64_t met_tag;   /* of LINEAR_PRESENT */
    uint64_t made_tag;  /* of a put */
};

enum linear_outcome {
    LINEAR_MAYBE, /* no answer, or one that doesn't say whether it happened */
    LINEAR_DONE,
    LINEAR_FAILED, /* the condition of step `failed` did, so nothing happened */
};

#define LINEAR_NEVER UINT64_MAX

struct linear_op {
    unsigned client;
    uint64_t call, end; /* moments; LINEAR_NEVER: it may still happen when all is over */
    enum linear_outcome outcome;
    size_t failed;
    size_t n_steps;
    struct linear_step steps[LINEAR_STEPS_MAX];
};

struct linear_history;

struct linear_history *linear_new(void);
void linear_free(struct linear_history *history); /* NULL is allowed */

/* The name of a value that nobody has used. */
uint32_t linear_value(struct linear_history *history);

/* Just before the operation is sent. Returns its number. */
size_t linear_call(struct linear_history *history, unsigned client, const struct linear_step *steps,
                   size_t n_steps);

/* Just after the answer came. `steps` are those of the call with their answers. */
void linear_done(struct linear_history *history, size_t op, const struct linear_step *steps);
void linear_failed(struct linear_history *history, size_t op, const struct linear_step *steps,
                   size_t failed);

/* It is known to have done nothing, and nothing was learned from it. */
void linear_forget(struct linear_history *history, size_t op);

/* The process is gone: what has no answer by now has happened or never will. */
void linear_down(struct linear_history *history);

/* How much a history is worth as a test. */
struct linear_worth {
    size_t ops, reads;
    size_t overlaps;   /* pairs of operations at the same time on one key, not both of them reads */
    size_t held;       /* conditions that held… */
    size_t refused;    /* …and failed */
    size_t maybe;      /* operations without an answer that may have changed something… */
    size_t maybe_seen; /* …of which somebody saw that they did */
    size_t together;   /* operations of several steps */
};

/* Adds what this history is worth. */
void linear_weigh(const struct linear_history *history, struct linear_worth *worth);

enum linear_verdict {
    LINEAR_GOOD,
    LINEAR_BAD,
    LINEAR_TOO_HARD, /* LINEAR_CONFIGURATIONS_MAX were looked at, and neither was shown */
};

enum { LINEAR_CONFIGURATIONS_MAX = 1 << 17 }; /* of 96 bytes each */

/* Checks each key by itself, and then all keys together that operations connect. *ret_report is for
 * free(): NULL for LINEAR_GOOD; else a text with the operations on the offending keys up to the
 * answer that can't be explained, without reads that don't matter. */
enum linear_verdict linear_check(const struct linear_history *history, char **ret_report);

#endif
