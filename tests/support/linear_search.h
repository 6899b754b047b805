/*
 * linear_search.h - the search behind linear_check(): is there an order that explains the answers?
 *
 * It walks along the history's moments. An operation gets its place as late as possible: when one
 * ends that has none yet, it and each of those under way are tried as the next. A configuration is
 * the moment, what the map holds, whose the unexplained tags were found to be, and who under way
 * has a place already. None is looked at twice.
 *
 * Threads:   any thread; nothing is shared.
 * Ownership: operations and tags are borrowed.
 * Errors:    more than LINEAR_OPEN_MAX operations under way or LINEAR_FREE_TAGS unexplained tags
 *            end the program: the history is not one for this search.
 */
#ifndef VARVE_TESTS_SUPPORT_LINEAR_SEARCH_H
#define VARVE_TESTS_SUPPORT_LINEAR_SEARCH_H

#include "tests/support/linear_tags.h"

/* `tags` is what the whole history tells, of which these operations may be a part. *ret_stuck is
 * set for LINEAR_BAD: the first operation whose answer no order explains. */
enum linear_verdict linear_search(const struct linear_op *ops, size_t n_ops,
                                  const struct linear_tags *tags, size_t *ret_stuck);

#endif
