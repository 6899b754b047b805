/*
 * linear_tags.h - whose the tags of a history are, as far as its answers tell.
 *
 * A tag names one value of one key for ever. Whoever uses one in a condition was told it before, so
 * one that no answer has is nobody's.
 *
 * Threads:   any thread, once made.
 * Ownership: linear_tags_free(); the operations are borrowed for the call only.
 * Errors:    answers that contradict each other are a result.
 */
#ifndef VARVE_TESTS_SUPPORT_LINEAR_TAGS_H
#define VARVE_TESTS_SUPPORT_LINEAR_TAGS_H

#include "tests/support/linear.h"

/* Why a history is bad. */
struct linear_fault {
    size_t op;    /* the first whose answer no order explains… */
    size_t other; /* …because of this one, where two say different things of one tag or value;
                   * else SIZE_MAX */
};

struct linear_tag {
    uint64_t text;
    unsigned key;
    uint32_t value; /* 0: no answer tells */
    size_t told_by; /* the operation whose answer told the key, or else the value */
};

struct linear_tags {
    struct linear_tag *tags; /* from 1 */
    size_t n_tags;
    size_t *of_value; /* place in `tags`; 0: no answer tells */
    size_t n_values;
};

/* NULL: an answer contradicts another, and *ret_fault says which. */
struct linear_tags *linear_tags_new(const struct linear_op *ops, size_t n_ops,
                                    struct linear_fault *ret_fault);
void linear_tags_free(struct linear_tags *tags); /* NULL is allowed */

/* Its place; 0: no answer has it. */
size_t linear_tags_find(const struct linear_tags *tags, uint64_t text);

#endif
