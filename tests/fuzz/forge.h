/*
 * forge.h - files of a data directory made of hostile bytes: checksums, ids, sizes and numbers are
 * made right around them, so that what is wrong lies behind all of that.
 *
 * An input is 16 bytes of settings, then a file, or several, without the zeros that fill the header
 * up to 4,096 bytes. Settings of zero mend all that can be mended; bits leave parts as they are;
 * and the nth checksum alone can be wrong.
 *
 * Threads:   one.
 * Ownership: forged_release() frees the bytes.
 * Errors:    none; bytes that make no sense stay as they are.
 */
#ifndef VARVE_TESTS_FUZZ_FORGE_H
#define VARVE_TESTS_FUZZ_FORGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/bytes.h"
#include "store/base/vfs.h"
#include "store/lsm/files.h"
#include "store/lsm/record.h"

#define FORGE_STORE_ID UINT64_C(0xF05709E1D0000001)

enum forge_leave {
    FORGE_LEAVE_CHECKSUMS = 1 << 0,
    FORGE_LEAVE_IDS = 1 << 1,     /* and numbers of files */
    FORGE_LEAVE_SIZES = 1 << 2,   /* and counts, offsets, tags */
    FORGE_LEAVE_NUMBERS = 1 << 3, /* of records in a frame; sums of a table */
    FORGE_LEAVE_KEYS = 1 << 4,    /* separators, filter, smallest and largest key */
};

struct forge_settings {
    uint8_t leave;        /* enum forge_leave bits */
    uint8_t wrong;        /* this checksum, counted from 1 as they are made, is wrong */
    uint8_t target[2];    /* for the target itself */
    uint32_t number;      /* likewise */
    uint16_t zeros_at;    /* where zeros are put in, counted in 8 bytes behind the settings… */
    uint16_t zeros;       /* …and how many, counted likewise */
    uint16_t tail_zeros;  /* behind the last byte, counted likewise */
    uint16_t gap_byte_at; /* a byte between header and offset 4,096 that isn't zero; 0: none */
};

_Static_assert(sizeof(struct forge_settings) == 16, "forge.h says 16");

/* Settings and what follows them, zeros put in. */
struct forged {
    struct forge_settings settings;
    uint8_t *data; /* 8-aligned */
    size_t size;
    unsigned checksums; /* made so far */
};

/* False if the input is shorter than settings. */
bool forged_init(struct forged *forged, const uint8_t *data, size_t size);
void forged_release(struct forged *forged);

/* The file that begins with `size` bytes at `data`, with the zeros behind its header. Freed by the
 * caller; *ret_size its size. */
uint8_t *forge_file(const struct forged *forged, const uint8_t *data, size_t size,
                    size_t *ret_size);

/* Writes a checksum where it belongs, unless the settings say otherwise. */
void forge_checksum(struct forged *forged, void *at, uint32_t checksum);

/* Mends a file's header: ids and number (where the settings want that) and checksum. Returns the
 * file id; 0 if there is no whole header. */
uint64_t forge_header(struct forged *forged, uint8_t *data, size_t size, uint64_t number);

/* Mends a record's checksums, if it can be one within `available` bytes. Returns its size, or 0. */
uint64_t forge_record(struct forged *forged, uint8_t *at, uint64_t available);

/* Mends the checksums of a run of sections. */
void forge_sections(struct forged *forged, uint8_t *run, size_t size, uint64_t file_id);

/* --- What is asked of any file -----------------------------------------------------------------
 */

/* Damage, and its detail names a file of ours. */
void forge_assert_named(enum err err, const struct err_detail *detail);

/* Reads all bytes: AddressSanitizer sees those that aren't there. */
void forge_touch(struct bytes bytes);

/* A record that was handed out as verified: whole, valid, and its metadata can be read. */
void forge_assert_record(const struct record *record);

/* `varve dump` of a file: what it shows is sane. Returns the number of records it showed;
 * *ret_damaged: it spoke of damage. */
uint64_t forge_dump(const struct vfs *vfs, const char *path, bool *ret_damaged);

/* `varve check` of a directory that has a manifest: findings name files, nothing else fails.
 * Returns the number of problems. */
uint64_t forge_check(const struct vfs *vfs, const char *path);

/* The same of a directory that must be as it should: no problem and no note. Returns the number of
 * the tables' records. */
uint64_t forge_check_sound(const struct vfs *vfs, const char *path);

/* `varve salvage` of a directory that has a manifest, and again as if it had none: it ends, and
 * what it copies passes the check and, where `open` asks for it, can be opened. `sound`: the check
 * found no problem, so nothing is lost. `has_files`: there are tables or segments. */
void forge_salvage(const struct vfs *vfs, const char *path, bool sound, bool has_files, bool open);

/* Opens the store at `path`, reads all of it in two ways that must agree, and closes it; false if
 * it is refused, with a file's name. What was opened is intact and can be opened again. */
bool forge_open_store(const struct vfs *vfs, const char *path);

#endif
