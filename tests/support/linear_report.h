/*
 * linear_report.h - operations of a history as text, one a line.
 *
 * Threads:   any thread.
 * Ownership: the text is the caller's to free.
 * Errors:    running out of memory ends the program.
 */
#ifndef VARVE_TESTS_SUPPORT_LINEAR_REPORT_H
#define VARVE_TESTS_SUPPORT_LINEAR_REPORT_H

#include "tests/support/linear_tags.h"

/* The operations in order of their calls, with marks where the fault is (op SIZE_MAX: nowhere). */
char *linear_report(const struct linear_op *ops, size_t n_ops, const struct linear_fault *fault);

#endif
