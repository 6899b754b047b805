/*
 * manifest.c - reading and replacing the manifest. See FORMAT.md for the bytes.
 *
 * What a manifest says must agree with itself. That is asserted before one is written and checked
 * after one was read, by the same function.
 */
#include "store/lsm/manifest.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "store/base/crc32c.h"
#include "store/lsm/files.h"
#include "store/lsm/sections.h"

#define FILE_MAX_BYTES (UINT64_C(256) << 20)

enum {
    TAG_COUNTERS = 1,
    TAG_TABLES = 2,
    TAG_SEGMENTS = 3,
};

struct counters {
    uint64_t epoch;
    uint64_t next_file;
    uint64_t covered_seq;
    uint64_t clock_ms;
};

struct entry {
    uint32_t level;
    uint32_t footer_checksum;
    uint64_t number;
    uint64_t file_id;
    uint64_t size_bytes;
    uint64_t records;
    uint64_t markers;
    uint64_t min_seq;
    uint64_t max_seq;
    uint64_t data_bytes;
    uint16_t smallest_size;
    uint16_t largest_size;
    uint32_t reserved; /* 0 */
};

struct file_end {
    uint64_t size_bytes;
    uint32_t reserved; /* 0 */
    uint32_t checksum; /* of all bytes before */
};

_Static_assert(sizeof(struct counters) == 32, "FORMAT.md says 32");
_Static_assert(sizeof(struct entry) == 80, "FORMAT.md says 80");
_Static_assert(sizeof(struct file_end) == 16, "FORMAT.md says 16");

void manifest_release(struct manifest *manifest)
{
    free(manifest->tables);
    free(manifest->segments);
    *manifest = (struct manifest){.store_id = 0};
}

/* --- What must agree -------------------------------------------------------------------------- */

static struct bytes key_bytes(const struct table_key *key)
{
    return bytes_of(key->data, key->size);
}

static const char *wrong_in_neighbours(const struct manifest_table *a,
                                       const struct manifest_table *b)
{
    if (b->level < a->level) {
        return "levels are out of order";
    }
    if (b->level > a->level) {
        return NULL;
    }
    if (a->level == 0) {
        return b->info.max_seq < a->info.min_seq ? NULL : "tables of level 0 are out of order";
    }
    return bytes_compare(key_bytes(&a->info.largest), key_bytes(&b->info.smallest)) < 0
               ? NULL
               : "key ranges of a level overlap or are out of order";
}

static const char *wrong_in_tables(const struct manifest *manifest)
{
    for (size_t i = 0; i < manifest->n_tables; i++) {
        const struct manifest_table *table = &manifest->tables[i];
        if (table->level >= MANIFEST_LEVELS) {
            return "a table has an impossible level";
        }
        if (!table_info_is_plausible(&table->info) || table->info.max_seq > manifest->covered_seq) {
            return "a table has impossible properties";
        }
        const char *wrong = i == 0 ? NULL : wrong_in_neighbours(table - 1, table);
        if (wrong) {
            return wrong;
        }
    }
    return NULL;
}

static int compare_numbers(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Scratch has room for all numbers. */
static const char *wrong_in_numbers(const struct manifest *manifest, uint64_t *scratch)
{
    size_t n = 0;

    for (size_t i = 0; i < manifest->n_segments; i++) {
        if (i > 0 && manifest->segments[i] <= manifest->segments[i - 1]) {
            return "segments are out of order";
        }
        scratch[n++] = manifest->segments[i];
    }
    for (size_t i = 0; i < manifest->n_tables; i++) {
        scratch[n++] = manifest->tables[i].info.number;
    }
    if (n == 0) {
        return NULL;
    }
    qsort(scratch, n, sizeof *scratch, compare_numbers);
    for (size_t i = 1; i < n; i++) {
        if (scratch[i] == scratch[i - 1]) {
            return "two files have one number";
        }
    }
    return scratch[0] > 0 && scratch[n - 1] < manifest->next_file ? NULL
                                                                  : "a file number is out of range";
}

/* *ret_wrong is a sentence's end, or NULL if all agrees. */
static enum err check(const struct manifest *manifest, const char **ret_wrong)
{
    uint64_t *scratch = malloc((manifest->n_segments + manifest->n_tables + 1) * sizeof(uint64_t));
    if (!scratch) {
        return ERR_NO_MEMORY;
    }
    const char *wrong = NULL;
    if (manifest->store_id == 0 || manifest->epoch == 0 || manifest->number == 0 ||
        manifest->next_file == 0) {
        wrong = "an id or a counter is 0";
    } else if (manifest->covered_seq > RECORD_SEQ_MAX) {
        wrong = "the covered number is out of range";
    }
    if (!wrong) {
        wrong = wrong_in_tables(manifest);
    }
    if (!wrong) {
        wrong = wrong_in_numbers(manifest, scratch);
    }
    free(scratch);
    *ret_wrong = wrong;
    return ERR_OK;
}

/* --- Writing ---------------------------------------------------------------------------------- */

/* Tells this manifest's bytes from those of any other of the store. */
static uint64_t file_id_of(const struct manifest *manifest)
{
    const uint64_t parts[] = {manifest->epoch, manifest->number, manifest->clock_ms};
    uint64_t id = XXH3_64bits_withSeed(parts, sizeof parts, manifest->store_id);
    return id == 0 ? 1 : id;
}

static void put_table(struct sections *sections, const struct manifest_table *table)
{
    const struct table_info *info = &table->info;
    struct entry entry = {
        .level = table->level,
        .footer_checksum = info->footer_checksum,
        .number = info->number,
        .file_id = info->file_id,
        .size_bytes = info->size_bytes,
        .records = info->records,
        .markers = info->markers,
        .min_seq = info->min_seq,
        .max_seq = info->max_seq,
        .data_bytes = info->data_bytes,
        .smallest_size = info->smallest.size,
        .largest_size = info->largest.size,
    };
    section_put(sections, &entry, sizeof entry);
    section_put(sections, info->smallest.data, info->smallest.size);
    section_put(sections, info->largest.data, info->largest.size);
    section_pad(sections);
}

static enum err encode(const struct manifest *manifest, struct sections *sections)
{
    struct counters counters = {
        .epoch = manifest->epoch,
        .next_file = manifest->next_file,
        .covered_seq = manifest->covered_seq,
        .clock_ms = manifest->clock_ms,
    };
    section_begin(sections, TAG_COUNTERS);
    section_put(sections, &counters, sizeof counters);
    section_end(sections);

    section_begin(sections, TAG_TABLES);
    for (size_t i = 0; i < manifest->n_tables; i++) {
        put_table(sections, &manifest->tables[i]);
    }
    section_end(sections);

    section_begin(sections, TAG_SEGMENTS);
    section_put(sections, manifest->segments, manifest->n_segments * sizeof manifest->segments[0]);
    section_end(sections);
    return sections_finish(sections);
}

static uint32_t file_checksum(const struct file_header *header, struct bytes sections,
                              const struct file_end *end)
{
    uint32_t crc = crc32c(0, header, sizeof *header);
    crc = crc32c(crc, sections.data, sections.size);
    return crc32c(crc, end, offsetof(struct file_end, checksum));
}

static enum err write_file(struct vfs_file *file, const struct manifest *manifest,
                           const struct sections *sections)
{
    struct file_header header;
    struct file_end end = {.size_bytes = sizeof header + sections->size + sizeof end};
    struct iovec parts[] = {
        {.iov_base = &header, .iov_len = sizeof header},
        {.iov_base = sections->data, .iov_len = sections->size},
        {.iov_base = &end, .iov_len = sizeof end},
    };

    file_header_init(&header, FILE_MANIFEST, manifest->store_id, manifest->number,
                     sections->file_id);
    end.checksum = file_checksum(&header, bytes_of(sections->data, sections->size), &end);
    enum err err = vfs_write(file, 0, parts, sizeof parts / sizeof parts[0]);
    return err ? err : vfs_sync(file);
}

/* Writes the file `name` and syncs it. */
static enum err write_next(struct vfs_dir *dir, const char *name, const struct manifest *manifest,
                           const struct sections *sections)
{
    struct vfs_file *file;

    enum err err = vfs_open(dir, name, VFS_CREATE, &file);
    if (err == ERR_EXISTS) {
        /* An earlier attempt's; nobody reads it. */
        err = vfs_unlink(dir, name);
        if (!err) {
            err = vfs_open(dir, name, VFS_CREATE, &file);
        }
    }
    if (err) {
        return err;
    }
    err = write_file(file, manifest, sections);
    vfs_close(file);
    if (err) {
        /* Space may be short. Whether this works or not, the name is never read. */
        (void)!vfs_unlink(dir, name);
    }
    return err;
}

enum err manifest_store(struct vfs_dir *dir, const struct manifest *manifest,
                        enum manifest_stage *ret_stage)
{
    struct sections sections;
    const char *wrong;

    uint64_t failed_syncs = vfs_dir_failed_syncs(dir);
    *ret_stage = MANIFEST_UNTOUCHED;
    sections_init(&sections, file_id_of(manifest));
    enum err err = check(manifest, &wrong);
    if (err) {
        goto out;
    }
    assert(!wrong);
    err = encode(manifest, &sections);
    if (err) {
        goto out;
    }
    if (sections.size > FILE_MAX_BYTES - sizeof(struct file_header) - sizeof(struct file_end)) {
        err = ERR_TOO_LARGE;
        goto out;
    }
    char name[FILES_NAME_BYTES];
    files_name_next(manifest->number, failed_syncs, name);
    err = write_next(dir, name, manifest, &sections);
    if (err) {
        goto out;
    }
    *ret_stage = MANIFEST_UNKNOWN;
    err = vfs_rename(dir, name, FILES_MANIFEST);
    if (err) {
        goto out;
    }
    err = vfs_dir_sync_since(dir, failed_syncs);
    if (err) {
        goto out;
    }
    *ret_stage = MANIFEST_DONE;
out:
    sections_free(&sections);
    return err;
}

/* --- Reading ---------------------------------------------------------------------------------- */

/* The whole file in memory. */
static enum err read_file(struct vfs_dir *dir, uint8_t **ret_data, size_t *ret_size,
                          struct err_detail *detail)
{
    struct vfs_file *file;
    uint8_t *data = NULL;
    uint64_t size;
    size_t got;

    enum err err = vfs_open(dir, FILES_MANIFEST, VFS_READ, &file);
    if (err) {
        err_detail_set(detail, "%s: %s", FILES_MANIFEST, err_text(err));
        return err;
    }
    err = vfs_size(file, &size);
    if (err) {
        goto out;
    }
    if (size < sizeof(struct file_header) + sizeof(struct file_end) || size > FILE_MAX_BYTES) {
        err_detail_set(detail, "%s: has an impossible size of %" PRIu64 " bytes", FILES_MANIFEST,
                       size);
        err = ERR_CORRUPT;
        goto close;
    }
    data = malloc(size);
    if (!data) {
        err = ERR_NO_MEMORY;
        goto out;
    }
    err = vfs_read(file, 0, data, size, &got);
    if (!err && got < size) {
        err = ERR_IO; /* somebody cut it short between the two calls */
    }
out:
    if (err) {
        err_detail_set(detail, "%s: can't be read: %s", FILES_MANIFEST, err_text(err));
    }
close:
    vfs_close(file);
    if (err) {
        free(data);
        return err;
    }
    *ret_data = data;
    *ret_size = size;
    return ERR_OK;
}

static bool take_key(const uint8_t **at, uint16_t size, struct table_key *ret_key)
{
    if (size == 0 || size > RECORD_KEY_MAX_BYTES) {
        return false;
    }
    ret_key->size = size;
    memcpy(ret_key->data, *at, size);
    *at += size;
    return true;
}

/* Takes one table off `rest`. False if there is no whole one. */
static bool take_table(struct bytes *rest, struct manifest_table *ret_table)
{
    const uint8_t *begin = rest->data;
    struct entry entry;

    if (rest->size < sizeof entry) {
        return false;
    }
    memcpy(&entry, begin, sizeof entry);
    size_t used = sizeof entry + entry.smallest_size + entry.largest_size;
    size_t whole = align8(used);
    if (entry.reserved != 0 || rest->size < whole) {
        return false;
    }
    *ret_table = (struct manifest_table){
        .level = entry.level,
        .info =
            {
                .number = entry.number,
                .file_id = entry.file_id,
                .size_bytes = entry.size_bytes,
                .records = entry.records,
                .markers = entry.markers,
                .min_seq = entry.min_seq,
                .max_seq = entry.max_seq,
                .data_bytes = entry.data_bytes,
                .footer_checksum = entry.footer_checksum,
            },
    };
    const uint8_t *at = begin + sizeof entry;
    if (!take_key(&at, entry.smallest_size, &ret_table->info.smallest) ||
        !take_key(&at, entry.largest_size, &ret_table->info.largest)) {
        return false;
    }
    if (!bytes_are_zero(at, (size_t)(begin + whole - at))) {
        return false;
    }
    *rest = bytes_of(begin + whole, rest->size - whole);
    return true;
}

static enum err take_tables(struct bytes contents, struct manifest *manifest)
{
    size_t n = 0;
    struct manifest_table scratch;

    for (struct bytes rest = contents; rest.size > 0; n++) {
        if (!take_table(&rest, &scratch)) {
            return ERR_CORRUPT;
        }
    }
    if (n == 0) {
        return ERR_OK;
    }
    assert(!manifest->tables); /* sections don't occur twice */
    manifest->tables = calloc(n, sizeof manifest->tables[0]);
    if (!manifest->tables) {
        return ERR_NO_MEMORY;
    }
    while (manifest->n_tables < n && take_table(&contents, &manifest->tables[manifest->n_tables])) {
        manifest->n_tables++;
    }
    assert(manifest->n_tables == n);
    return ERR_OK;
}

static enum err take_counters(struct bytes contents, struct manifest *manifest)
{
    struct counters counters;

    if (contents.size != sizeof counters) {
        return ERR_CORRUPT;
    }
    memcpy(&counters, contents.data, sizeof counters);
    manifest->epoch = counters.epoch;
    manifest->next_file = counters.next_file;
    manifest->covered_seq = counters.covered_seq;
    manifest->clock_ms = counters.clock_ms;
    return ERR_OK;
}

static enum err take_segments(struct bytes contents, struct manifest *manifest)
{
    if (contents.size % sizeof manifest->segments[0] != 0) {
        return ERR_CORRUPT;
    }
    if (contents.size == 0) {
        return ERR_OK;
    }
    assert(!manifest->segments);
    manifest->segments = malloc(contents.size);
    if (!manifest->segments) {
        return ERR_NO_MEMORY;
    }
    memcpy(manifest->segments, contents.data, contents.size);
    manifest->n_segments = contents.size / sizeof manifest->segments[0];
    return ERR_OK;
}

static enum err take_section(const struct section *section, size_t offset,
                             struct manifest *manifest, struct err_detail *detail)
{
    enum err err;

    switch (section->tag) {
    case TAG_COUNTERS:
        err = take_counters(section->contents, manifest);
        break;
    case TAG_TABLES:
        err = take_tables(section->contents, manifest);
        break;
    case TAG_SEGMENTS:
        err = take_segments(section->contents, manifest);
        break;
    default:
        if ((section->tag & SECTION_MAY_SKIP) != 0) {
            return ERR_OK;
        }
        err_detail_set(detail,
                       "%s, offset %zu: a section of a kind that this varve doesn't know (tag "
                       "%" PRIu32 "): use the version of varve that wrote it",
                       FILES_MANIFEST, offset, section->tag);
        return ERR_FORMAT;
    }
    if (err) {
        err_detail_set(detail, "%s, offset %zu: section %" PRIu32 ": %s", FILES_MANIFEST, offset,
                       section->tag, err_text(err));
    }
    return err;
}

static enum err take_sections(struct bytes run, const struct file_header *header,
                              struct manifest *manifest, struct err_detail *detail)
{
    const unsigned needed = 1u << TAG_COUNTERS | 1u << TAG_TABLES | 1u << TAG_SEGMENTS;
    unsigned seen = 0;
    struct section_reader reader;

    section_reader_init(&reader, run, header->file_id);
    for (;;) {
        struct section section;
        size_t offset = sizeof *header + reader.at;
        enum err err = section_next(&reader, &section);
        if (err) {
            err_detail_set(detail, "%s, offset %zu: a section is damaged", FILES_MANIFEST, offset);
            return err;
        }
        if (section.tag == 0) {
            break;
        }
        err = take_section(&section, offset, manifest, detail);
        if (err) {
            return err;
        }
        seen |= section.tag <= TAG_SEGMENTS ? 1u << section.tag : 0;
    }
    if (seen != needed) {
        err_detail_set(detail, "%s: a section is missing", FILES_MANIFEST);
        return ERR_CORRUPT;
    }
    return ERR_OK;
}

/* Counters that were read are taken only where at least half of their range is left: so whoever
 * goes on counting needn't look for the end. No store comes there by itself. */
static bool is_used_up(const struct manifest *manifest)
{
    return manifest->number > UINT64_MAX / 2 || manifest->next_file > UINT64_MAX / 2 ||
           manifest->covered_seq > RECORD_SEQ_MAX / 2;
}

static enum err parse(const uint8_t *data, size_t size, struct manifest *manifest,
                      struct err_detail *detail)
{
    struct file_header header;
    struct file_end end;
    struct bytes run = bytes_of(data + sizeof header, size - sizeof header - sizeof end);
    const char *wrong;

    memcpy(&header, data, sizeof header);
    memcpy(&end, data + size - sizeof end, sizeof end);
    enum err err = file_header_check(&header, FILE_MANIFEST, 0, UINT64_MAX, FILES_MANIFEST, detail);
    if (err) {
        return err;
    }
    manifest->store_id = header.store_id;
    manifest->number = header.number;
    if (end.size_bytes != size || end.reserved != 0) {
        err_detail_set(detail, "%s, offset %zu: the file's end is damaged or missing",
                       FILES_MANIFEST, size - sizeof end);
        return ERR_CORRUPT;
    }
    err = take_sections(run, &header, manifest, detail);
    if (err) {
        return err;
    }
    if (end.checksum != file_checksum(&header, run, &end)) {
        err_detail_set(detail, "%s: the file's checksum doesn't agree", FILES_MANIFEST);
        return ERR_CORRUPT;
    }
    err = check(manifest, &wrong);
    if (err) {
        return err;
    }
    if (!wrong && is_used_up(manifest)) {
        wrong = "a counter is used up";
    }
    if (wrong) {
        err_detail_set(detail, "%s: %s", FILES_MANIFEST, wrong);
        return ERR_CORRUPT;
    }
    return ERR_OK;
}

enum err manifest_load(struct vfs_dir *dir, struct manifest *ret_manifest,
                       struct err_detail *detail)
{
    struct manifest manifest = {.store_id = 0};
    uint8_t *data;
    size_t size;

    enum err err = read_file(dir, &data, &size, detail);
    if (err) {
        return err;
    }
    err = parse(data, size, &manifest, detail);
    free(data);
    if (err) {
        manifest_release(&manifest);
        return err;
    }
    *ret_manifest = manifest;
    return ERR_OK;
}

/* --- Looking at a damaged one ----------------------------------------------------------------- */

struct look {
    manifest_bad_fn *bad;
    void *arg;
    struct err_detail detail; /* of the damaged place */
};

/* Damage is told; other errors end the look. */
static enum err tell(struct look *look, enum err err)
{
    if (err == ERR_CORRUPT) {
        look->bad(look->arg, &look->detail);
        return ERR_OK;
    }
    return err;
}

static enum err look_at_sections(struct look *look, struct bytes run, uint64_t file_id,
                                 struct manifest *manifest)
{
    struct section_reader reader;
    struct section section = {.tag = 1};

    section_reader_init(&reader, run, file_id);
    while (section.tag != 0) {
        size_t offset = sizeof(struct file_header) + reader.at;
        if (section_next(&reader, &section) != ERR_OK) {
            err_detail_set(&look->detail, "%s, offset %zu: a section is damaged", FILES_MANIFEST,
                           offset);
            look->bad(look->arg, &look->detail);
            if (!section_skip(&reader)) {
                return ERR_OK;
            }
            continue;
        }
        enum err err = section.tag == 0
                           ? ERR_OK
                           : tell(look, take_section(&section, offset, manifest, &look->detail));
        if (err) {
            return err;
        }
    }
    return ERR_OK;
}

enum err manifest_load_damaged(struct vfs_dir *dir, manifest_bad_fn *bad, void *arg,
                               struct manifest *ret_manifest, struct err_detail *detail)
{
    struct look look = {.bad = bad, .arg = arg};
    struct manifest manifest = {.store_id = 0};
    struct file_header header;
    uint8_t *data = NULL;
    size_t size;

    enum err err = read_file(dir, &data, &size, &look.detail);
    if (!err) {
        memcpy(&header, data, sizeof header);
        err =
            file_header_check(&header, FILE_MANIFEST, 0, UINT64_MAX, FILES_MANIFEST, &look.detail);
    }
    if (err == ERR_FORMAT && !file_header_is_intact(&header)) {
        err = ERR_CORRUPT;
    }
    err = tell(&look, err);
    if (!err && data) {
        struct bytes run =
            bytes_of(data + sizeof header, size - sizeof header - sizeof(struct file_end));
        manifest.store_id = header.store_id;
        manifest.number = header.number;
        err = look_at_sections(&look, run, header.file_id, &manifest);
    }
    free(data);
    if (err) {
        err_detail_set(detail, "%s", look.detail.text);
        manifest_release(&manifest);
        return err;
    }
    *ret_manifest = manifest;
    return ERR_OK;
}
