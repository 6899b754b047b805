/*
 * sections.h - runs of tagged sections: the contents of manifests and the properties of tables.
 *
 * Each section has a tag, a size and a checksum that is seeded with the id of its file (FORMAT.md,
 * "Sections"). Tags ascend; one with SECTION_MAY_SKIP set may be passed over by a reader that
 * doesn't know it.
 *
 * Threads:   any thread; a writer or reader belongs to one at a time.
 * Ownership: sections_free() frees what a writer made. A reader borrows the bytes it walks.
 * Errors:    ERR_NO_MEMORY, told once, by sections_finish(); ERR_CORRUPT for damaged bytes.
 */
#ifndef VARVE_STORE_LSM_SECTIONS_H
#define VARVE_STORE_LSM_SECTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/bytes.h"
#include "store/base/err.h"

#define SECTION_MAY_SKIP     (UINT32_C(1) << 31)
#define SECTION_HEADER_BYTES 16u

/* --- Writing ---------------------------------------------------------------------------------- */

struct sections {
    uint8_t *data; /* the run so far */
    size_t size, capacity;
    size_t open; /* where the section being written begins */
    uint64_t file_id;
    bool failed; /* out of memory: nothing is added any more */
};

void sections_init(struct sections *sections, uint64_t file_id);
void sections_free(struct sections *sections);

/* section_begin(), then any number of section_put(), then section_end(); tags ascend. */
void section_begin(struct sections *sections, uint32_t tag);
void section_put(struct sections *sections, const void *data, size_t size);
void section_put_u64(struct sections *sections, uint64_t number);
/* Zeros to the next multiple of 8. */
void section_pad(struct sections *sections);
void section_end(struct sections *sections);

/* Whether all of it is there. Then data and size are the run. */
MUST_USE enum err sections_finish(const struct sections *sections);

/* --- Reading ---------------------------------------------------------------------------------- */

struct section_reader {
    const uint8_t *data;
    size_t size;
    size_t at; /* where the next section begins, or the damaged one */
    uint64_t file_id;
    uint32_t last_tag;
};

struct section {
    uint32_t tag;
    size_t offset; /* of its contents in the run */
    struct bytes contents;
};

/* `data` is 8-aligned. */
void section_reader_init(struct section_reader *reader, struct bytes run, uint64_t file_id);

/* Verifies the next section; *ret_section has tag 0 at the end of the run. ERR_CORRUPT if it is
 * damaged or out of order. */
MUST_USE enum err section_next(struct section_reader *reader, struct section *ret_section);

/* Behind a damaged section, as its size says; false if that can't be right. */
bool section_skip(struct section_reader *reader);

#endif
