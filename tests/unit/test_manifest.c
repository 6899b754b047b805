/* Manifests: what is stored is loaded, nothing damaged is, and a failed replacement says how far it
 * came. */
#include "store/lsm/manifest.h"

#include <stdio.h>
#include <stdlib.h>

#include "store/base/crc32c.h"
#include "store/base/vfs.h"
#include "store/lsm/files.h"
#include "store/lsm/sections.h"
#include "tests/support/check.h"
#include "tests/support/tables.h"
#include "tests/support/temp_dir.h"
#include "tests/support/vfs_mem.h"

/* --- File operations that fail on request ------------------------------------------------------
 */

enum call { CALL_NONE, CALL_OPEN, CALL_WRITE, CALL_SYNC, CALL_RENAME, CALL_DIR_SYNC, CALLS };

static enum call fails;
static struct vfs failing_vfs;

static enum err may_fail_open(struct vfs_dir *dir, const char *name, enum vfs_open_mode mode,
                              struct vfs_file **ret_file)
{
    return fails == CALL_OPEN && mode == VFS_CREATE ? ERR_NO_SPACE
                                                    : vfs_posix()->open(dir, name, mode, ret_file);
}

static enum err may_fail_write(struct vfs_file *file, uint64_t offset, const struct iovec *parts,
                               size_t n_parts)
{
    return fails == CALL_WRITE ? ERR_NO_SPACE : vfs_posix()->write(file, offset, parts, n_parts);
}

static enum err may_fail_sync(struct vfs_file *file)
{
    return fails == CALL_SYNC ? ERR_IO : vfs_posix()->sync(file);
}

static enum err may_fail_rename(struct vfs_dir *dir, const char *from, const char *to)
{
    return fails == CALL_RENAME ? ERR_IO : vfs_posix()->rename(dir, from, to);
}

static enum err may_fail_dir_sync(struct vfs_dir *dir)
{
    return fails == CALL_DIR_SYNC ? ERR_IO : vfs_posix()->dir_sync(dir);
}

/* --- Fixture -----------------------------------------------------------------------------------
 */

struct fixture {
    char path[TEMP_DIR_BYTES];
    struct vfs_dir *dir;
    struct err_detail detail;
};

static int set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    assert_non_null(fixture);
    fails = CALL_NONE;
    failing_vfs = *vfs_posix();
    failing_vfs.open = may_fail_open;
    failing_vfs.write = may_fail_write;
    failing_vfs.sync = may_fail_sync;
    failing_vfs.rename = may_fail_rename;
    failing_vfs.dir_sync = may_fail_dir_sync;
    temp_dir_make(fixture->path);
    assert_ok(vfs_dir_open(&failing_vfs, fixture->path, false, &fixture->dir));
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    vfs_dir_close(fixture->dir);
    temp_dir_remove(fixture->path);
    free(fixture);
    return 0;
}

static struct table_key key_of(const char *text)
{
    struct table_key key = {.size = (uint16_t)strlen(text)};
    memcpy(key.data, text, key.size);
    return key;
}

static struct manifest_table a_table(uint32_t level, uint64_t number, uint64_t min_seq,
                                     uint64_t max_seq, const char *smallest, const char *largest)
{
    return (struct manifest_table){
        .level = level,
        .info =
            {
                .number = number,
                .file_id = number * 1000003,
                .size_bytes = 8192 + number,
                .records = 100 + number,
                .markers = number,
                .min_seq = min_seq,
                .max_seq = max_seq,
                .data_bytes = 4096 + number,
                .footer_checksum = (uint32_t)(number * 77777),
                .smallest = key_of(smallest),
                .largest = key_of(largest),
            },
    };
}

enum { TABLES = 6, SEGMENTS = 3 };

/* The arrays are the caller's. */
static struct manifest a_manifest(struct manifest_table tables[TABLES], uint64_t segments[SEGMENTS])
{
    tables[0] = a_table(0, 21, 900, 999, "b", "y");
    tables[1] = a_table(0, 19, 800, 899, "a", "z");
    tables[2] = a_table(1, 12, 10, 700, "a", "g");
    tables[3] = a_table(1, 11, 5, 701, "gg", "gg");
    tables[4] = a_table(1, 13, 50, 50, "h", "zzzzzzzzzzzzz");
    tables[5] = a_table(6, 3, 1, 4, "c", "d");
    segments[0] = 20;
    segments[1] = 22;
    segments[2] = 23;
    return (struct manifest){
        .store_id = 0xABCDEF,
        .epoch = 77,
        .number = 5,
        .next_file = 24,
        .covered_seq = 999,
        .clock_ms = 1700000000000,
        .tables = tables,
        .n_tables = TABLES,
        .segments = segments,
        .n_segments = SEGMENTS,
    };
}

static void assert_infos_equal(const struct table_info *a, const struct table_info *b)
{
    assert_int_equal(a->number, b->number);
    assert_int_equal(a->file_id, b->file_id);
    assert_int_equal(a->size_bytes, b->size_bytes);
    assert_int_equal(a->records, b->records);
    assert_int_equal(a->markers, b->markers);
    assert_int_equal(a->min_seq, b->min_seq);
    assert_int_equal(a->max_seq, b->max_seq);
    assert_int_equal(a->data_bytes, b->data_bytes);
    assert_int_equal(a->footer_checksum, b->footer_checksum);
    assert_int_equal(a->smallest.size, b->smallest.size);
    assert_memory_equal(a->smallest.data, b->smallest.data, a->smallest.size);
    assert_int_equal(a->largest.size, b->largest.size);
    assert_memory_equal(a->largest.data, b->largest.data, a->largest.size);
}

static void assert_manifests_equal(const struct manifest *a, const struct manifest *b)
{
    assert_non_null(b);
    assert_int_equal(a->store_id, b->store_id);
    assert_int_equal(a->epoch, b->epoch);
    assert_int_equal(a->number, b->number);
    assert_int_equal(a->next_file, b->next_file);
    assert_int_equal(a->covered_seq, b->covered_seq);
    assert_int_equal(a->clock_ms, b->clock_ms);
    assert_int_equal(a->n_tables, b->n_tables);
    for (size_t i = 0; i < a->n_tables; i++) {
        assert_int_equal(a->tables[i].level, b->tables[i].level);
        assert_infos_equal(&a->tables[i].info, &b->tables[i].info);
    }
    assert_int_equal(a->n_segments, b->n_segments);
    for (size_t i = 0; i < a->n_segments; i++) {
        assert_int_equal(a->segments[i], b->segments[i]);
    }
}

static void store(struct fixture *fixture, const struct manifest *manifest)
{
    enum manifest_stage stage;
    assert_ok(manifest_store(fixture->dir, manifest, &stage));
    assert_int_equal(stage, MANIFEST_DONE);
}

/* Loads it if it is intact; then it must be `expected`. */
static enum err load(struct fixture *fixture, const struct manifest *expected)
{
    struct manifest manifest;

    fixture->detail.text[0] = '\0';
    enum err err = manifest_load(fixture->dir, &manifest, &fixture->detail);
    if (err) {
        assert_non_null(strstr(fixture->detail.text, "MANIFEST"));
        return err;
    }
    assert_manifests_equal(&manifest, expected);
    manifest_release(&manifest);
    return ERR_OK;
}

static bool exists(struct fixture *fixture, const char *name)
{
    struct vfs_file *file;
    if (vfs_open(fixture->dir, name, VFS_READ, &file)) {
        return false;
    }
    vfs_close(file);
    return true;
}

/* --- What is promised --------------------------------------------------------------------------
 */

static void loads_what_was_stored(void **state)
{
    struct fixture *fixture = *state;
    struct manifest_table tables[TABLES];
    uint64_t segments[SEGMENTS];
    struct manifest manifest = a_manifest(tables, segments);

    store(fixture, &manifest);
    assert_ok(load(fixture, &manifest));
    manifest.number++;
    manifest.covered_seq++;
    manifest.n_tables--;
    store(fixture, &manifest);
    assert_ok(load(fixture, &manifest));
    assert_false(exists(fixture, FILES_MANIFEST_NEXT));
}

/* Files outlive versions: where this fails, the format has changed, and so must its version. */
static void writes_the_bytes_that_it_always_wrote(void **state)
{
    struct fixture *fixture = *state;
    struct manifest_table tables[TABLES];
    uint64_t segments[SEGMENTS];
    struct manifest manifest = a_manifest(tables, segments);
    size_t size;

    store(fixture, &manifest);
    uint8_t *data = file_read_all(fixture->dir, FILES_MANIFEST, &size);
    assert_int_equal(crc32c(0, data, size - 4), 0x40532B94);
    free(data);
}

static void loads_an_empty_store(void **state)
{
    struct fixture *fixture = *state;
    struct manifest manifest = {.store_id = 1, .epoch = 2, .number = 1, .next_file = 1};

    store(fixture, &manifest);
    assert_ok(load(fixture, &manifest));
}

static void a_missing_one_is_not_found(void **state)
{
    assert_err(ERR_NOT_FOUND, load(*state, NULL));
}

static void replaces_what_an_earlier_attempt_left(void **state)
{
    struct fixture *fixture = *state;
    struct manifest manifest = {.store_id = 1, .epoch = 2, .number = 1, .next_file = 1};
    char rubbish[100000];

    memset(rubbish, 'x', sizeof rubbish);
    file_write_all(fixture->dir, FILES_MANIFEST_NEXT, rubbish, sizeof rubbish);
    store(fixture, &manifest);
    assert_ok(load(fixture, &manifest));
}

static void refuses_one_with_any_bit_flipped(void **state)
{
    struct fixture *fixture = *state;
    struct manifest_table tables[TABLES];
    uint64_t segments[SEGMENTS];
    struct manifest manifest = a_manifest(tables, segments);
    size_t size;

    store(fixture, &manifest);
    free(file_read_all(fixture->dir, FILES_MANIFEST, &size));
    for (uint64_t bit = 0; bit < size * 8; bit++) {
        file_flip_bit(fixture->dir, FILES_MANIFEST, bit);
        enum err err = load(fixture, &manifest);
        assert_true(err == ERR_CORRUPT || err == ERR_FORMAT);
        file_flip_bit(fixture->dir, FILES_MANIFEST, bit);
    }
    assert_ok(load(fixture, &manifest));
}

static void refuses_one_of_64_KiB_with_any_bit_flipped(void **state)
{
    enum { MANY = 560 };
    struct fixture *fixture = *state;
    struct manifest_table *tables = calloc(MANY, sizeof tables[0]);
    struct manifest manifest = {.store_id = 1,
                                .epoch = 2,
                                .number = 1,
                                .next_file = MANY + 1,
                                .covered_seq = 1000,
                                .tables = tables,
                                .n_tables = MANY};
    struct prng prng;
    size_t size;

    assert_non_null(tables);
    prng_init(&prng, test_seed());
    for (uint64_t i = 0; i < MANY; i++) {
        char key[16];
        (void)snprintf(key, sizeof key, "k%06u", (unsigned)i);
        tables[i] = a_table(1, i + 1, 1, 1000, key, key);
    }
    store(fixture, &manifest);
    free(file_read_all(fixture->dir, FILES_MANIFEST, &size));
    assert_in_range(size, 49152, 73728);
    for (uint64_t i = 0; i < test_flips(8 * size, 500); i++) {
        uint64_t bit = test_flip(&prng, i, 8 * size, 500);
        file_flip_bit(fixture->dir, FILES_MANIFEST, bit);
        enum err err = load(fixture, &manifest);
        assert_true(err == ERR_CORRUPT || err == ERR_FORMAT);
        file_flip_bit(fixture->dir, FILES_MANIFEST, bit);
    }
    assert_ok(load(fixture, &manifest));
    free(tables);
}

static void refuses_one_cut_short_or_longer(void **state)
{
    struct fixture *fixture = *state;
    struct manifest_table tables[TABLES];
    uint64_t segments[SEGMENTS];
    struct manifest manifest = a_manifest(tables, segments);
    size_t size;

    store(fixture, &manifest);
    uint8_t *data = file_read_all(fixture->dir, FILES_MANIFEST, &size);
    for (size_t cut = 0; cut < size; cut++) {
        file_write_all(fixture->dir, FILES_MANIFEST, data, cut);
        assert_err(ERR_CORRUPT, load(fixture, &manifest));
    }
    data[size] = 0; /* there is room for one byte more */
    file_write_all(fixture->dir, FILES_MANIFEST, data, size + 1);
    assert_err(ERR_CORRUPT, load(fixture, &manifest));
    free(data);
}

static void says_how_far_a_failed_replacement_came(void **state)
{
    struct fixture *fixture = *state;
    struct manifest before = {.store_id = 1, .epoch = 2, .number = 1, .next_file = 1};
    struct manifest after = before;
    const enum err errors[] = {[CALL_OPEN] = ERR_NO_SPACE,
                               [CALL_WRITE] = ERR_NO_SPACE,
                               [CALL_SYNC] = ERR_IO,
                               [CALL_RENAME] = ERR_IO,
                               [CALL_DIR_SYNC] = ERR_IO};

    after.number = 2;
    for (enum call call = CALL_OPEN; call < CALLS; call++) {
        enum manifest_stage stage;
        store(fixture, &before);
        fails = call;
        assert_err(errors[call], manifest_store(fixture->dir, &after, &stage));
        fails = CALL_NONE;
        assert_int_equal(stage, call >= CALL_RENAME ? MANIFEST_UNKNOWN : MANIFEST_UNTOUCHED);
        assert_ok(load(fixture, call == CALL_DIR_SYNC ? &after : &before));
        assert_int_equal(exists(fixture, FILES_MANIFEST_NEXT), call == CALL_RENAME);
    }
}

/* Once a failed sync of the directory had left in doubt what was done to MANIFEST.next, a manifest
 * written under that name was not certain to be there after a power failure, whatever later syncs
 * said; but files of the one before it were removed. */
static void is_durable_after_a_failed_sync_of_the_directory(void **state)
{
    (void)state;
    struct vfs_mem *fs = vfs_mem_new(1);
    struct vfs_mem_plan plan = {.ops = VFS_MEM_BIT(VFS_MEM_SYNC) | VFS_MEM_BIT(VFS_MEM_DIR_SYNC),
                                .nth = 3,
                                .verdict = {.action = VFS_MEM_FAIL, .err = ERR_IO}};
    struct manifest manifest = {.store_id = 1, .epoch = 2, .number = 1, .next_file = 1};
    struct fixture fixture = {.path = ""};
    enum manifest_stage stage;

    vfs_mem_set_hook(fs, vfs_mem_follow_plan, &plan);
    assert_ok(vfs_dir_open(vfs_mem_vfs(fs), "data", true, &fixture.dir));
    store(&fixture, &manifest);
    /* Left behind by an earlier opening, in which a sync of the directory had failed too. */
    char left[FILES_NAME_BYTES];
    files_name_next(manifest.number, 1, left);
    vfs_mem_put(fs, left, "", 0);
    assert_ok(vfs_unlink(fixture.dir, left));
    manifest.number = 2;
    assert_err(ERR_IO, manifest_store(fixture.dir, &manifest, &stage));
    assert_int_equal(stage, MANIFEST_UNTOUCHED); /* its file was removed again */
    plan.nth = 4;
    assert_err(ERR_IO, vfs_dir_sync_since(fixture.dir, 0)); /* as of a table */
    store(&fixture, &manifest);
    manifest.number = 3;
    store(&fixture, &manifest);
    vfs_dir_close(fixture.dir);

    struct vfs_mem *after = vfs_mem_crash_clone(fs, MEM_KEEP_NOTHING, 1);
    assert_ok(vfs_dir_open(vfs_mem_vfs(after), "data", false, &fixture.dir));
    assert_ok(load(&fixture, &manifest));
    vfs_dir_close(fixture.dir);
    vfs_mem_free(after);
    vfs_mem_free(fs);
}

/* --- Intact, but not to be believed -------------------------------------------------------------
 */

/* A manifest file of these sections, whose own checksums are right. */
static void write_sections(struct fixture *fixture, struct sections *sections)
{
    struct file_header header;
    uint8_t end[16] = {0};

    assert_ok(sections_finish(sections));
    file_header_init(&header, FILE_MANIFEST, 1, 1, sections->file_id);
    size_t size = sizeof header + sections->size + sizeof end;
    uint8_t *data = malloc(size);
    assert_non_null(data);
    memcpy(data, &header, sizeof header);
    memcpy(data + sizeof header, sections->data, sections->size);
    store_u64(end, size);
    memcpy(data + size - sizeof end, end, sizeof end);
    store_u32(data + size - 4, crc32c(0, data, size - 4));
    file_write_all(fixture->dir, FILES_MANIFEST, data, size);
    free(data);
    sections_free(sections);
}

/* The three sections of an empty store, with one more before tag `extra` comes up in order. */
static void write_with_extra(struct fixture *fixture, uint32_t extra)
{
    struct sections sections;

    sections_init(&sections, 99);
    for (uint32_t tag = 1; tag <= 3; tag++) {
        section_begin(&sections, tag);
        for (int i = 0; tag == 1 && i < 4; i++) {
            section_put_u64(&sections, 1);
        }
        section_end(&sections);
    }
    if (extra != 0) {
        section_begin(&sections, extra);
        section_end(&sections);
    }
    write_sections(fixture, &sections);
}

static void skips_unknown_sections_only_if_they_say_so(void **state)
{
    struct fixture *fixture = *state;
    const struct manifest empty = {
        .store_id = 1, .epoch = 1, .number = 1, .next_file = 1, .covered_seq = 1, .clock_ms = 1};

    write_with_extra(fixture, 0);
    assert_ok(load(fixture, &empty));
    write_with_extra(fixture, SECTION_MAY_SKIP | 4711);
    assert_ok(load(fixture, &empty));
    write_with_extra(fixture, 4711);
    assert_err(ERR_FORMAT, load(fixture, &empty));
    assert_non_null(strstr(fixture->detail.text, "4711"));
    write_with_extra(fixture, 3); /* a second time */
    assert_err(ERR_CORRUPT, load(fixture, &empty));
    write_with_extra(fixture, 2); /* out of order */
    assert_err(ERR_CORRUPT, load(fixture, &empty));
}

/* The file's own checksum is right, a section's isn't: as if it were another manifest's. */
static void refuses_one_with_a_section_of_another(void **state)
{
    struct fixture *fixture = *state;
    struct manifest_table tables[TABLES];
    uint64_t segments[SEGMENTS];
    struct manifest manifest = a_manifest(tables, segments);
    size_t size;

    store(fixture, &manifest);
    uint8_t *data = file_read_all(fixture->dir, FILES_MANIFEST, &size);
    store_u64(data + 64 + 16 + 24, 4711); /* the clock, in the first section */
    store_u32(data + size - 4, crc32c(0, data, size - 4));
    file_write_all(fixture->dir, FILES_MANIFEST, data, size);
    free(data);
    assert_err(ERR_CORRUPT, load(fixture, &manifest));
    assert_non_null(strstr(fixture->detail.text, "offset 64: "));
}

static void refuses_one_without_all_its_sections(void **state)
{
    struct fixture *fixture = *state;

    for (uint32_t missing = 1; missing <= 3; missing++) {
        struct sections sections;
        sections_init(&sections, 99);
        for (uint32_t tag = 1; tag <= 3; tag++) {
            if (tag == missing) {
                continue;
            }
            section_begin(&sections, tag);
            for (int i = 0; tag == 1 && i < 4; i++) {
                section_put_u64(&sections, 1);
            }
            section_end(&sections);
        }
        write_sections(fixture, &sections);
        assert_err(ERR_CORRUPT, load(fixture, NULL));
    }
}

static void refuses_a_later_format_version(void **state)
{
    struct fixture *fixture = *state;
    struct manifest manifest = {.store_id = 1, .epoch = 2, .number = 1, .next_file = 1};
    size_t size;

    store(fixture, &manifest);
    uint8_t *data = file_read_all(fixture->dir, FILES_MANIFEST, &size);
    store_u32(data + 8, FILES_FORMAT_VERSION + 1);
    file_write_all(fixture->dir, FILES_MANIFEST, data, size);
    free(data);
    assert_err(ERR_FORMAT, load(fixture, &manifest));
}

/* One thing that a manifest must not say, with all checksums right. */
struct lie {
    const char *what;
    void (*tell)(struct manifest_table tables[TABLES], uint64_t segments[SEGMENTS],
                 uint64_t counters[4]);
};

#define LIE(name)                                                                  \
    static void name(struct manifest_table tables[TABLES] __attribute__((unused)), \
                     uint64_t segments[SEGMENTS] __attribute__((unused)),          \
                     uint64_t counters[4] __attribute__((unused)))

enum { EPOCH, NEXT_FILE, COVERED_SEQ };

LIE(nothing)
{
}
LIE(epoch_is_zero)
{
    counters[EPOCH] = 0;
}
LIE(next_file_is_taken)
{
    counters[NEXT_FILE] = 23;
}
/* The next one would be 0, and whoever counts on relies on that there is one. */
LIE(next_file_is_used_up)
{
    counters[NEXT_FILE] = UINT64_MAX;
}
LIE(covered_number_is_the_last)
{
    counters[COVERED_SEQ] = UINT64_MAX;
}
LIE(covered_numbers_are_used_up)
{
    counters[COVERED_SEQ] = RECORD_SEQ_MAX / 2 + 1;
}
LIE(a_table_is_not_covered)
{
    counters[COVERED_SEQ] = 998;
}
LIE(two_tables_have_one_number)
{
    tables[5].info.number = 13;
}
LIE(table_and_segment_have_one_number)
{
    segments[0] = 19;
}
LIE(number_is_zero)
{
    tables[0].info.number = 0;
}
LIE(segments_are_out_of_order)
{
    segments[2] = 21;
}
LIE(level_is_impossible)
{
    tables[5].level = 7;
}
LIE(levels_are_out_of_order)
{
    tables[0].level = 1;
}
LIE(level_0_is_out_of_order)
{
    tables[0].info.min_seq = 1;
    tables[0].info.max_seq = 2;
}
LIE(level_0_overlaps)
{
    tables[1].info.max_seq = 900;
}
LIE(keys_overlap)
{
    tables[2].info.largest = key_of("gg");
}
LIE(keys_are_out_of_order)
{
    tables[3].info.smallest = key_of("zzzzzzzzzzzzzzz");
    tables[3].info.largest = key_of("zzzzzzzzzzzzzzzz");
}
LIE(range_is_upside_down)
{
    tables[5].info.smallest = key_of("e");
}
LIE(key_is_empty)
{
    tables[5].info.smallest.size = 0;
}
LIE(file_id_is_zero)
{
    tables[1].info.file_id = 0;
}
LIE(table_is_empty)
{
    tables[1].info.records = 0;
    tables[1].info.markers = 0;
}
LIE(more_markers_than_records)
{
    tables[1].info.markers = tables[1].info.records + 1;
}
LIE(numbers_are_upside_down)
{
    tables[2].info.min_seq = 701;
}
LIE(file_is_too_short)
{
    tables[2].info.size_bytes = 4095;
}

static void put_table(struct sections *sections, const struct manifest_table *table)
{
    const struct table_info *info = &table->info;
    const uint32_t first[] = {table->level, info->footer_checksum};
    const uint16_t sizes[] = {info->smallest.size, info->largest.size, 0, 0};

    section_put(sections, first, sizeof first);
    section_put_u64(sections, info->number);
    section_put_u64(sections, info->file_id);
    section_put_u64(sections, info->size_bytes);
    section_put_u64(sections, info->records);
    section_put_u64(sections, info->markers);
    section_put_u64(sections, info->min_seq);
    section_put_u64(sections, info->max_seq);
    section_put_u64(sections, info->data_bytes);
    section_put(sections, sizes, sizeof sizes);
    section_put(sections, info->smallest.data, info->smallest.size);
    section_put(sections, info->largest.data, info->largest.size);
    section_pad(sections);
}

static void write_lie(struct fixture *fixture, const struct lie *lie)
{
    struct manifest_table tables[TABLES];
    uint64_t segments[SEGMENTS];
    struct manifest manifest = a_manifest(tables, segments);
    uint64_t counters[] = {manifest.epoch, manifest.next_file, manifest.covered_seq, 0};
    struct sections sections;

    lie->tell(tables, segments, counters);
    sections_init(&sections, 99);
    section_begin(&sections, 1);
    section_put(&sections, counters, sizeof counters);
    section_end(&sections);
    section_begin(&sections, 2);
    for (size_t i = 0; i < TABLES; i++) {
        put_table(&sections, &tables[i]);
    }
    section_end(&sections);
    section_begin(&sections, 3);
    section_put(&sections, segments, sizeof segments);
    section_end(&sections);
    write_sections(fixture, &sections);
}

static void refuses_one_that_contradicts_itself(void **state)
{
#define ROW(name)   \
    {               \
#        name, name \
    }
    static const struct lie lies[] = {
        ROW(epoch_is_zero),
        ROW(next_file_is_taken),
        ROW(next_file_is_used_up),
        ROW(covered_number_is_the_last),
        ROW(covered_numbers_are_used_up),
        ROW(a_table_is_not_covered),
        ROW(two_tables_have_one_number),
        ROW(table_and_segment_have_one_number),
        ROW(number_is_zero),
        ROW(segments_are_out_of_order),
        ROW(level_is_impossible),
        ROW(levels_are_out_of_order),
        ROW(level_0_is_out_of_order),
        ROW(level_0_overlaps),
        ROW(keys_overlap),
        ROW(keys_are_out_of_order),
        ROW(range_is_upside_down),
        ROW(key_is_empty),
        ROW(file_id_is_zero),
        ROW(table_is_empty),
        ROW(more_markers_than_records),
        ROW(numbers_are_upside_down),
        ROW(file_is_too_short),
    };
    static const struct lie truth = ROW(nothing);
#undef ROW
    struct fixture *fixture = *state;
    struct manifest loaded;

    write_lie(fixture, &truth);
    assert_ok(manifest_load(fixture->dir, &loaded, &fixture->detail));
    manifest_release(&loaded);
    for (size_t i = 0; i < COUNT_OF(lies); i++) {
        write_lie(fixture, &lies[i]);
        enum err err = manifest_load(fixture->dir, &loaded, &fixture->detail);
        if (err != ERR_CORRUPT) {
            fail_msg("%s: %s", lies[i].what, err_name(err));
        }
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(loads_what_was_stored),
        TEST(writes_the_bytes_that_it_always_wrote),
        TEST(loads_an_empty_store),
        TEST(a_missing_one_is_not_found),
        TEST(replaces_what_an_earlier_attempt_left),
        TEST(refuses_one_with_any_bit_flipped),
        TEST(refuses_one_of_64_KiB_with_any_bit_flipped),
        TEST(refuses_one_cut_short_or_longer),
        TEST(says_how_far_a_failed_replacement_came),
        TEST(is_durable_after_a_failed_sync_of_the_directory),
        TEST(skips_unknown_sections_only_if_they_say_so),
        TEST(refuses_one_with_a_section_of_another),
        TEST(refuses_one_without_all_its_sections),
        TEST(refuses_a_later_format_version),
        TEST(refuses_one_that_contradicts_itself),
    };
    return cmocka_run_group_tests_name("manifest", tests, NULL, NULL);
}
