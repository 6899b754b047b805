/* fuzz_table_mend.h - making right what a table says of its own bytes; see forge.h. */
#ifndef VARVE_TESTS_FUZZ_FUZZ_TABLE_MEND_H
#define VARVE_TESTS_FUZZ_FUZZ_TABLE_MEND_H

#include "tests/fuzz/forge.h"

/* Mends the table of `size` bytes at `data`, as far as its footer and index tell where things are.
 */
void mend_table(struct forged *forged, uint8_t *data, size_t size);

#endif
