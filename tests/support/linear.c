/* linear.c - recording histories, and taking them apart for the search. */
#include "tests/support/linear.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/alloc.h"
#include "tests/support/linear_report.h"
#include "tests/support/linear_search.h"

struct linear_history {
    pthread_mutex_t lock; /* of all */
    struct linear_op *ops;
    size_t n_ops, capacity;
    uint64_t now;
    uint32_t n_values;
};

/* --- Recording --- */

struct linear_history *linear_new(void)
{
    struct linear_history *history = test_alloc(sizeof *history);
    pthread_mutex_init(&history->lock, NULL);
    return history;
}

void linear_free(struct linear_history *history)
{
    if (history != NULL) {
        pthread_mutex_destroy(&history->lock);
        free(history->ops);
        free(history);
    }
}

uint32_t linear_value(struct linear_history *history)
{
    pthread_mutex_lock(&history->lock);
    uint32_t value = ++history->n_values;
    pthread_mutex_unlock(&history->lock);
    return value;
}

size_t linear_call(struct linear_history *history, unsigned client, const struct linear_step *steps,
                   size_t n_steps)
{
    assert(n_steps > 0 && n_steps <= LINEAR_STEPS_MAX);
    pthread_mutex_lock(&history->lock);
    if (history->n_ops == history->capacity) {
        size_t old = history->capacity;
        history->capacity = old == 0 ? 64 : 2 * old;
        history->ops = test_grow(history->ops, old * sizeof *history->ops,
                                 history->capacity * sizeof *history->ops);
    }
    struct linear_op *op = &history->ops[history->n_ops];
    *op = (struct linear_op){
        .client = client, .call = ++history->now, .end = LINEAR_NEVER, .n_steps = n_steps};
    memcpy(op->steps, steps, n_steps * sizeof *steps);
    size_t number = history->n_ops++;
    pthread_mutex_unlock(&history->lock);
    return number;
}

static void end(struct linear_history *history, size_t number, const struct linear_step *steps,
                enum linear_outcome outcome, size_t failed)
{
    pthread_mutex_lock(&history->lock);
    struct linear_op *op = &history->ops[number];
    assert(op->outcome == LINEAR_MAYBE && op->end == LINEAR_NEVER && failed < op->n_steps);
    op->end = ++history->now;
    op->outcome = outcome;
    op->failed = failed;
    memcpy(op->steps, steps, op->n_steps * sizeof *steps);
    pthread_mutex_unlock(&history->lock);
}

void linear_done(struct linear_history *history, size_t op, const struct linear_step *steps)
{
    end(history, op, steps, LINEAR_DONE, 0);
}

void linear_failed(struct linear_history *history, size_t op, const struct linear_step *steps,
                   size_t failed)
{
    end(history, op, steps, LINEAR_FAILED, failed);
}

void linear_forget(struct linear_history *history, size_t op)
{
    pthread_mutex_lock(&history->lock);
    history->ops[op].n_steps = 0;
    pthread_mutex_unlock(&history->lock);
}

void linear_down(struct linear_history *history)
{
    pthread_mutex_lock(&history->lock);
    for (size_t i = 0; i < history->n_ops; i++) {
        if (history->ops[i].end == LINEAR_NEVER) {
            history->ops[i].end = ++history->now;
        }
    }
    pthread_mutex_unlock(&history->lock);
}

/* --- Taking apart --- */

static bool changes_anything(const struct linear_op *op)
{
    for (size_t i = 0; i < op->n_steps && op->outcome != LINEAR_FAILED; i++) {
        if (op->steps[i].effect != LINEAR_READ) {
            return true;
        }
    }
    return false;
}

/* What is left of an operation when only the keys of the set are looked at. */
static struct linear_op project(const struct linear_op *op, unsigned keys)
{
    struct linear_op part = *op;
    bool refused_elsewhere =
        op->outcome == LINEAR_FAILED && (keys >> op->steps[op->failed].key & 1) == 0;
    part.n_steps = 0;
    for (size_t i = 0; i < op->n_steps; i++) {
        struct linear_step step = op->steps[i];
        if ((keys >> step.key & 1) == 0) {
            continue;
        }
        if (i == op->failed) {
            part.failed = part.n_steps;
        }
        if (refused_elsewhere) {
            step.effect = LINEAR_READ;
            step.condition = LINEAR_ALWAYS;
        }
        part.steps[part.n_steps++] = step;
    }
    if (refused_elsewhere) {
        part.outcome = LINEAR_DONE;
        part.failed = 0;
    }
    return part;
}

/* A copy of the operations on a set of keys, without those that say nothing of them. */
static struct linear_op *select_ops(const struct linear_history *history, unsigned keys,
                                    size_t *ret_n)
{
    struct linear_op *ops = test_alloc(history->n_ops * sizeof *ops);
    size_t n = 0;
    for (size_t i = 0; i < history->n_ops; i++) {
        struct linear_op op = project(&history->ops[i], keys);
        if (op.n_steps > 0 && (op.outcome != LINEAR_MAYBE || changes_anything(&op))) {
            ops[n++] = op;
        }
    }
    *ret_n = n;
    return ops;
}

/* The set of keys that operations of several steps connect with `key`. */
static unsigned connected(const struct linear_history *history, unsigned key)
{
    unsigned keys = 1u << key;
    for (unsigned before = 0; before != keys;) {
        before = keys;
        for (size_t i = 0; i < history->n_ops; i++) {
            unsigned touched = 0;
            for (size_t j = 0; j < history->ops[i].n_steps; j++) {
                touched |= 1u << history->ops[i].steps[j].key;
            }
            keys |= (keys & touched) != 0 ? touched : 0;
        }
    }
    return keys;
}

/* --- Making the history of a fault short --- */

/* Leaves out what was called after operation `last` had ended; what ended later needn't happen. */
static size_t cut(const struct linear_op *ops, size_t n, size_t last, struct linear_op *ret_ops)
{
    size_t n_left = 0;
    for (size_t i = 0; i < n; i++) {
        if (ops[i].call < ops[last].end) {
            ret_ops[n_left] = ops[i];
            if (ops[i].end > ops[last].end) {
                ret_ops[n_left].end = LINEAR_NEVER;
            }
            n_left++;
        }
    }
    return n_left;
}

/* Leaves out, one after the other, whatever changed nothing and isn't needed for the fault. */
static size_t drop_idle(struct linear_op *ops, size_t n, const struct linear_tags *tags,
                        size_t *stuck)
{
    struct linear_op *fewer = test_alloc(n * sizeof *fewer);
    for (size_t i = n; i-- > 0;) {
        size_t its_stuck;
        if (changes_anything(&ops[i])) {
            continue;
        }
        memcpy(fewer, ops, i * sizeof *ops);
        memcpy(fewer + i, ops + i + 1, (n - i - 1) * sizeof *ops);
        if (linear_search(fewer, n - 1, tags, &its_stuck) == LINEAR_BAD) {
            n--;
            memcpy(ops, fewer, n * sizeof *ops);
            *stuck = its_stuck;
        }
    }
    free(fewer);
    return n;
}

static char *report(const struct linear_op *ops, size_t n, const struct linear_tags *tags,
                    size_t stuck)
{
    struct linear_op *few = test_alloc(n * sizeof *few);
    size_t n_few = cut(ops, n, stuck, few);
    enum linear_verdict verdict = linear_search(few, n_few, tags, &stuck);
    assert(verdict == LINEAR_BAD);
    n_few = drop_idle(few, n_few, tags, &stuck);
    char *text = linear_report(few, n_few, &(struct linear_fault){.op = stuck, .other = SIZE_MAX});
    free(few);
    return text;
}

/* --- Checking --- */

static enum linear_verdict check_keys(const struct linear_history *history, unsigned keys,
                                      const struct linear_tags *tags, char **ret_report)
{
    size_t n;
    size_t stuck;
    struct linear_op *ops = select_ops(history, keys, &n);
    enum linear_verdict verdict = linear_search(ops, n, tags, &stuck);
    if (verdict == LINEAR_BAD) {
        *ret_report = report(ops, n, tags, stuck);
    } else if (verdict == LINEAR_TOO_HARD) {
        *ret_report =
            linear_report(ops, n, &(struct linear_fault){.op = SIZE_MAX, .other = SIZE_MAX});
    }
    free(ops);
    return verdict;
}

/* The two operations whose answers contradict each other. */
static char *report_contradiction(const struct linear_history *history,
                                  const struct linear_fault *fault)
{
    struct linear_op two[] = {history->ops[fault->other], history->ops[fault->op]};
    return linear_report(two, 2, &(struct linear_fault){.op = 1, .other = 0});
}

enum linear_verdict linear_check(const struct linear_history *history, char **ret_report)
{
    enum linear_verdict verdict = LINEAR_GOOD;
    struct linear_fault fault;
    struct linear_tags *tags = linear_tags_new(history->ops, history->n_ops, &fault);
    *ret_report = NULL;
    if (tags == NULL) {
        *ret_report = report_contradiction(history, &fault);
        return LINEAR_BAD;
    }
    for (unsigned key = 0; key < LINEAR_KEYS_MAX && verdict == LINEAR_GOOD; key++) {
        verdict = check_keys(history, 1u << key, tags, ret_report);
    }
    for (unsigned key = 0; key < LINEAR_KEYS_MAX && verdict == LINEAR_GOOD; key++) {
        unsigned keys = connected(history, key);
        /* Each set once, at its first key; sets of one key were checked above. */
        if (keys > 1u << key && (keys & ((1u << key) - 1)) == 0) {
            verdict = check_keys(history, keys, tags, ret_report);
        }
    }
    linear_tags_free(tags);
    return verdict;
}

/* --- What it is worth --- */

static bool shares_a_key(const struct linear_op *a, const struct linear_op *b)
{
    for (size_t i = 0; i < a->n_steps; i++) {
        for (size_t j = 0; j < b->n_steps; j++) {
            if (a->steps[i].key == b->steps[j].key) {
                return true;
            }
        }
    }
    return false;
}

static size_t count_overlaps(const struct linear_history *history, size_t i)
{
    const struct linear_op *op = &history->ops[i];
    size_t n = 0;
    for (size_t j = i + 1; j < history->n_ops && history->ops[j].call < op->end; j++) {
        const struct linear_op *other = &history->ops[j];
        n += shares_a_key(op, other) && (changes_anything(op) || changes_anything(other));
    }
    return n;
}

/* Whether an answer shows a value that the operation has put. */
static bool was_seen(const struct linear_history *history, const struct linear_op *op)
{
    for (size_t i = 0; i < history->n_ops; i++) {
        for (size_t j = 0; j < history->ops[i].n_steps; j++) {
            for (size_t k = 0; k < op->n_steps; k++) {
                if (op->steps[k].value != 0 &&
                    op->steps[k].value == history->ops[i].steps[j].met_value) {
                    return true;
                }
            }
        }
    }
    return false;
}

static bool has_condition(const struct linear_op *op)
{
    for (size_t i = 0; i < op->n_steps; i++) {
        if (op->steps[i].condition != LINEAR_ALWAYS) {
            return true;
        }
    }
    return false;
}

void linear_weigh(const struct linear_history *history, struct linear_worth *worth)
{
    for (size_t i = 0; i < history->n_ops; i++) {
        const struct linear_op *op = &history->ops[i];
        if (op->n_steps == 0) {
            continue;
        }
        bool maybe = op->outcome == LINEAR_MAYBE && changes_anything(op);
        worth->ops++;
        worth->reads += op->outcome == LINEAR_DONE && !changes_anything(op);
        worth->overlaps += count_overlaps(history, i);
        worth->held += op->outcome == LINEAR_DONE && has_condition(op);
        worth->refused += op->outcome == LINEAR_FAILED;
        worth->maybe += maybe;
        worth->maybe_seen += maybe && was_seen(history, op);
        worth->together += op->n_steps > 1;
    }
}
