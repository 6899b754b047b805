/*
 * printable.h - bytes of unknown kind as one line of ASCII.
 *
 * Threads:   any thread.
 * Ownership: nothing is owned.
 * Errors:    none; ferror() of the stream tells.
 */
#ifndef SERVICE_PRINTABLE_H
#define SERVICE_PRINTABLE_H

#include <stdio.h>

#include "store/base/bytes.h"

/* Writes `bytes` between double quotes: what isn't printable ASCII as \xNN, and a backslash before
 * quotes and backslashes. */
void printable_write(struct bytes bytes, FILE *out);

#endif
