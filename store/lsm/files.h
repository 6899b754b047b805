/*
 * files.h - the names of a data directory's files and the header that each begins with (FORMAT.md).
 *
 * Threads:   any thread.
 * Ownership: nothing is owned.
 * Errors:    ERR_CORRUPT for a damaged header or another store's file, ERR_FORMAT for a later
 *            version, each with a sentence in the detail.
 */
#ifndef VARVE_STORE_LSM_FILES_H
#define VARVE_STORE_LSM_FILES_H

#include <stdbool.h>
#include <stdint.h>

#include "store/base/err.h"

#define FILES_FORMAT_VERSION 1u
#define FILES_NAME_BYTES     48u /* any name with its NUL */
#define FILES_MANIFEST       "MANIFEST"
#define FILES_MANIFEST_NEXT  "MANIFEST.next" /* of manifests on their way: files_name_next() */
#define FILES_BALLAST        "BALLAST"       /* space held for flush and compaction */

enum file_kind {
    FILE_SEGMENT = 1, /* NNNNNNNNNNNNNNNN.log, 16 hexadecimal digits in lower case */
    FILE_TABLE = 2,   /* NNNNNNNNNNNNNNNN.table */
    FILE_MANIFEST = 3,
};

/* Writes the name of segment or table `number`. */
void files_name(enum file_kind kind, uint64_t number, char ret_name[FILES_NAME_BYTES]);

/* True if `name` is one that files_name() writes; then says which. */
bool files_parse_name(const char *name, enum file_kind *ret_kind, uint64_t *ret_number);

/* Writes the name that manifest `number` gets while it is on its way. A failed sync of the
 * directory leaves in doubt for good what was done to names before it, so after one the name must
 * be new: within an opening the count of those makes it so, and what an earlier one left behind is
 * of a number up to that of the first manifest of this one. */
void files_name_next(uint64_t number, uint64_t failed_syncs, char ret_name[FILES_NAME_BYTES]);

/* True for the names that files_name_next() writes. Nobody ever reads such a file. */
bool files_is_next(const char *name);

/* True for names that a directory may have whosever it is: what a file system comes with, and
 * hidden ones. They don't make it a filled one. */
bool files_is_anybodys(const char *name);

/* The first bytes of every file (64 of them; segments and tables begin their content later). */
struct file_header {
    uint8_t magic[8];        /* "varve\r\n\0" with the kind's letter in place of the NUL: L, T, M */
    uint32_t format_version; /* FILES_FORMAT_VERSION */
    uint32_t must_understand; /* bits; any that is unknown is refused */
    uint32_t may_ignore;      /* bits */
    uint32_t checksum_type;   /* 1: CRC-32C */
    uint64_t store_id;        /* random, the same in all files of a store */
    uint64_t number;          /* of the file; manifests count their replacements */
    uint64_t file_id;         /* random, this file's alone */
    uint64_t reserved;        /* 0 */
    uint32_t reserved1;       /* 0 */
    uint32_t checksum;        /* CRC-32C of the bytes before this field */
};

_Static_assert(sizeof(struct file_header) == 64, "FORMAT.md says 64");

/* Fills and seals a header. */
void file_header_init(struct file_header *header, enum file_kind kind, uint64_t store_id,
                      uint64_t number, uint64_t file_id);

/* True if the checksum agrees, which says nothing of the other fields. */
bool file_header_is_intact(const struct file_header *header);

/* Checks a header that was read from `name`: kind, version, bits, checksum. store_id 0 or number
 * UINT64_MAX: any. The detail names the file, and for a later version says which versions. */
MUST_USE enum err file_header_check(const struct file_header *header, enum file_kind kind,
                                    uint64_t store_id, uint64_t number, const char *name,
                                    struct err_detail *detail);

#endif
