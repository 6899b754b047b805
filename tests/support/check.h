/*
 * check.h - cmocka with what it needs before it, and assertions for enum err.
 *
 * Threads: cmocka's assertions belong to the thread that runs the test; other threads use assert().
 */
#ifndef VARVE_TESTS_SUPPORT_CHECK_H
#define VARVE_TESTS_SUPPORT_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "store/base/err.h"

/* The call returns exactly this error; the failure names both. */
#define assert_err(expected, call) assert_string_equal(err_name(call), err_name(expected))
#define assert_ok(call)            assert_err(ERR_OK, call)

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

#endif
