/*
 * seeds.c - writes the first examples for the targets that read files (forge.h): files that the
 * store's own code made, whole and with one thing wrong. The other examples were found from these
 * by libFuzzer.
 *
 * usage: fuzz_seeds CORPUS
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/lsm/manifest.h"
#include "store/lsm/wal.h"
#include "tests/fuzz/forge.h"
#include "tests/support/alloc.h"
#include "tests/support/check.h"
#include "tests/support/made_log.h"
#include "tests/support/tables.h"
#include "tests/support/vfs_mem.h"

enum {
    UNIT = 8,
    LONG_VALUE_BYTES = 70001,
    WINDOW_VALUE_BYTES = 524288, /* of which all but 8 can be left out */
};

static const char *corpus;

/* A number set in the bytes before they are saved. */
struct patch {
    size_t offset, size; /* size 0: none */
    uint64_t value;
};

/* --- Saving ------------------------------------------------------------------------------------
 */

/* Takes the longest run of zeros out of the bytes, if that is worth it. */
static size_t take_zeros_out(uint8_t *bytes, size_t size, struct forge_settings *settings)
{
    enum { WORTH_BYTES = 256 };
    const size_t most = (size_t)UINT16_MAX * UNIT;
    size_t best = 0;
    size_t best_at = 0;

    for (size_t at = 0; at + UNIT <= size; at += UNIT) {
        size_t end = at;
        while (end + UNIT <= size && end - at < most && load_u64(bytes + end) == 0) {
            end += UNIT;
        }
        if (end - at > best) {
            best = end - at;
            best_at = at;
        }
        at = end;
    }
    if (best < WORTH_BYTES) {
        return size;
    }
    memmove(bytes + best_at, bytes + best_at + best, size - best_at - best);
    settings->zeros_at = (uint16_t)(best_at / UNIT);
    settings->zeros = (uint16_t)(best / UNIT);
    return size - best;
}

static void save(const char *kind, const char *name, struct forge_settings settings,
                 const void *data, size_t size, struct patch patch)
{
    char path[4096];
    uint8_t *bytes = test_alloc(size);

    memcpy(bytes, data, size);
    assert_true(patch.offset + patch.size <= size);
    memcpy(bytes + patch.offset, &patch.value, patch.size);
    if (settings.zeros == 0) {
        size = take_zeros_out(bytes, size, &settings);
    }
    (void)snprintf(path, sizeof path, "%s/%s/%s", corpus, kind, name);
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(&settings, sizeof settings, 1, file) != 1 ||
        fwrite(bytes, 1, size, file) != size || fclose(file) != 0) {
        perror(path);
        exit(1);
    }
    free(bytes);
}

/* A file without the zeros behind its header; appended to `into`, which has room. */
static size_t append_file(uint8_t *into, const uint8_t *data, size_t size)
{
    size_t header = sizeof(struct file_header);
    size_t begin = (size_t)WAL_FIRST_FRAME_OFFSET;

    memcpy(into, data, header);
    memcpy(into + header, data + begin, size - begin);
    return header + size - begin;
}

/* --- Logs --------------------------------------------------------------------------------------
 */

static void save_log(const char *name, struct forge_settings settings, struct made_log *log,
                     struct patch patch)
{
    uint8_t bytes[MADE_SEGMENTS * MADE_SEGMENT_BYTES];
    size_t size = 0;

    for (size_t i = 0; i < MADE_SEGMENTS; i++) {
        size_t end = (size_t)made_log_end_of(log, i + 1);
        if (i == 0 || end > WAL_FIRST_FRAME_OFFSET) {
            size += append_file(bytes + size, log->written[i], end);
        }
    }
    save("log", name, settings, bytes, size, patch);
    made_log_free(log);
}

static struct made_log *one_frame(const struct vfs *vfs)
{
    static const struct made_plan plan[] = {{1, 3, 0}};

    return made_log_new(vfs, plan, 1, MADE_SEGMENT_BYTES);
}

static struct made_log *two_frames(const struct vfs *vfs, uint64_t durable_upto)
{
    const struct made_plan plan[] = {{1, 1, 0}, {1, 1, durable_upto}};

    return made_log_new(vfs, plan, 2, MADE_SEGMENT_BYTES);
}

/* Of the record that every log begins with. */
static size_t first_record_bytes(void)
{
    struct record *record = made_record_new(1);
    size_t size = record_size(record);

    free(record);
    return size;
}

/* A segment with one record, whose value is all zeros. */
static void save_one_record(const char *name, const struct record_meta *meta, uint64_t value_bytes)
{
    const struct forge_settings opened = {.target = {0, 1}};
    struct frame_header frame = {.first_seq = 1};
    struct file_header header;
    size_t size = record_size_for(1, record_meta_size(meta), value_bytes);
    size_t at = sizeof header + sizeof frame;
    uint8_t *bytes = test_alloc(at + size);
    struct record *record = test_alloc(size);

    file_header_init(&header, FILE_SEGMENT, FORGE_STORE_ID, 1, 0xABCDEF0123456789);
    frame.segment_id = header.file_id;
    record_init(record, RECORD_PUT, bytes_of_text("k"), meta, value_bytes);
    record_seal(record, record_payload_checksum(record), 1, 0);
    memcpy(bytes, &header, sizeof header);
    memcpy(bytes + sizeof header, &frame, sizeof frame);
    memcpy(bytes + at, record, size);
    save("log", name, opened, bytes, at + size, (struct patch){0});
    free(record);
    free(bytes);
}

/* Offsets in a segment's first frame without the zeros behind the header. */
enum {
    FRAME_AT = sizeof(struct file_header),
    RECORD_AT = FRAME_AT + WAL_FRAME_HEADER_BYTES,
    METADATA_AT = RECORD_AT + sizeof(struct record) + 2, /* behind the key, "k1" */
};

static void save_logs(const struct vfs *vfs)
{
    const struct forge_settings none = {0};
    const struct forge_settings opened = {.target = {0, 1}};
    const struct patch no_patch = {0};

    save_log("synced", opened, made_log_synced(vfs), no_patch);
    save_log("pipelined", opened, made_log_pipelined(vfs), no_patch);
    save_log("one_frame", none, one_frame(vfs), no_patch);
    save_log("zeros_behind", (struct forge_settings){.tail_zeros = 100}, one_frame(vfs), no_patch);
    save_log("bytes_before_the_first_frame", (struct forge_settings){.gap_byte_at = 100},
             one_frame(vfs), no_patch);
    save_log("covered_in_part", (struct forge_settings){.number = 2}, one_frame(vfs), no_patch);
    save_log("covered", (struct forge_settings){.number = 3}, one_frame(vfs), no_patch);
    save_log("covered_and_more", (struct forge_settings){.number = 9, .target = {0, 1}},
             made_log_synced(vfs), no_patch);
    save_log("first_segment_missing", (struct forge_settings){.target = {1}}, made_log_synced(vfs),
             no_patch);
    save_log("header_damaged", (struct forge_settings){.wrong = 1}, one_frame(vfs), no_patch);
    save_log("record_damaged", (struct forge_settings){.wrong = 3}, one_frame(vfs), no_patch);
    save_log("frame_damaged", (struct forge_settings){.wrong = 5}, one_frame(vfs), no_patch);
    save_log("torn_before_what_was_not_durable", (struct forge_settings){.wrong = 3},
             two_frames(vfs, 0), no_patch);
    save_log("damaged_before_what_was_durable", (struct forge_settings){.wrong = 3},
             two_frames(vfs, 1), no_patch);
    save_log("empty_frame_damaged", (struct forge_settings){.wrong = 8}, made_log_synced(vfs),
             no_patch);
    save_log("nothing_mended", (struct forge_settings){.leave = 0xFF}, made_log_synced(vfs),
             no_patch);
    save_log("later_kind", none, one_frame(vfs), (struct patch){RECORD_AT + 4, 1, 3});
    save_log("later_flag", none, one_frame(vfs), (struct patch){RECORD_AT + 5, 1, 0x82});
    save_log("later_format", none, one_frame(vfs), (struct patch){8, 4, 2});
    save_log("format_0", none, one_frame(vfs), (struct patch){8, 4, 0});
    save_log("must_understand", none, one_frame(vfs), (struct patch){12, 4, 1});
    save_log("checksum_type", none, one_frame(vfs), (struct patch){20, 4, 2});
    save_log("reserved_in_the_header", none, one_frame(vfs), (struct patch){48, 4, 2});
    save_log("other_store", (struct forge_settings){.leave = FORGE_LEAVE_IDS}, one_frame(vfs),
             (struct patch){24, 8, 77});
    save_log("other_number", (struct forge_settings){.leave = FORGE_LEAVE_IDS}, one_frame(vfs),
             (struct patch){32, 8, 77});
    save_log("other_magic", none, one_frame(vfs), (struct patch){7, 1, 'T'});
    save_log("no_magic", none, one_frame(vfs), (struct patch){7, 1, 'X'});
    save_log("count_too_large", (struct forge_settings){.leave = FORGE_LEAVE_SIZES}, one_frame(vfs),
             (struct patch){FRAME_AT + 12, 4, 4});
    save_log("bytes_beyond_the_end", (struct forge_settings){.leave = FORGE_LEAVE_SIZES},
             one_frame(vfs), (struct patch){FRAME_AT + 8, 4, 80000});
    save_log("number_0", none, one_frame(vfs), (struct patch){FRAME_AT + 16, 8, 0});
    save_log("largest_number", none, one_frame(vfs),
             (struct patch){FRAME_AT + 16, 8, UINT64_MAX - 3});
    save_log("first_record_numbered_otherwise",
             (struct forge_settings){.leave = FORGE_LEAVE_NUMBERS}, one_frame(vfs),
             (struct patch){RECORD_AT + 24, 8, 9});
    save_log("second_record_numbered_otherwise",
             (struct forge_settings){.leave = FORGE_LEAVE_NUMBERS}, one_frame(vfs),
             (struct patch){RECORD_AT + first_record_bytes() + 24, 8, 9});
    save_log("metadata_tag_twice", none, one_frame(vfs), (struct patch){METADATA_AT, 1, 2});
    save_log("metadata_tag_0", none, one_frame(vfs), (struct patch){METADATA_AT, 1, 0});
    save_log("metadata_too_long", none, one_frame(vfs), (struct patch){METADATA_AT + 2, 2, 999});
    save_log("gap_in_the_numbers", none, two_frames(vfs, 0),
             (struct patch){RECORD_AT + first_record_bytes() + 16, 8, 3});
    save_log("durable_upto_itself", none, one_frame(vfs), (struct patch){FRAME_AT + 24, 8, 1});
    save_one_record("long_value", &(struct record_meta){.modified_ms = 0}, LONG_VALUE_BYTES);
    save_one_record("every_metadata",
                    &(struct record_meta){.modified_ms = 1700000000000,
                                          .content_type = bytes_of_text("text/plain"),
                                          .content_encoding = bytes_of_text("gzip"),
                                          .cache_control = bytes_of_text("no-store")},
                    1);
}

/* --- Tables ------------------------------------------------------------------------------------
 */

static void save_table(const char *name, struct forge_settings settings, struct record_set *set,
                       struct patch patch)
{
    struct vfs_mem *fs = vfs_mem_new(1);
    struct table_info info;
    struct vfs_dir *dir;
    size_t size;

    assert_ok(vfs_dir_open(vfs_mem_vfs(fs), "d", true, &dir));
    tables_write(dir, 1, set, &info);
    uint8_t *file = vfs_mem_get(fs, "0000000000000001.table", &size);
    uint8_t *bytes = test_alloc(size);
    size = append_file(bytes, file, size);
    patch.offset = patch.size > 0 && patch.offset > size ? patch.offset + size : patch.offset;
    save("table", name, settings, bytes, size, patch);
    free(bytes);
    free(file);
    vfs_dir_close(dir);
    vfs_mem_free(fs);
    record_set_release(set);
}

static struct record_set *few(void)
{
    static struct record_set set;

    record_set_add(&set, bytes_of_text("tenant/a"), 10);
    record_set_add_marker(&set, bytes_of_text("tenant/ab"));
    record_set_add(&set, bytes_of_text("tenant/b"), 0);
    return &set;
}

static struct record_set *some(size_t n, uint64_t value_bytes)
{
    static struct record_set set;

    for (size_t i = 0; i < n; i++) {
        char key[32];
        (void)snprintf(key, sizeof key, "k%03zu", i);
        record_set_add(&set, bytes_of_text(key), value_bytes);
    }
    return &set;
}

/* A short record, and one whose value is long and zero. */
static struct record_set *one_long(uint64_t value_bytes)
{
    struct record_set *set = few();

    record_set_add(set, bytes_of_text("tenant/c"), value_bytes);
    struct record *record = set->records[set->n - 1];
    memset((void *)(uintptr_t)record_value(record).data, 0, value_bytes);
    record_seal(record, record_payload_checksum(record), record->seq, 0);
    return set;
}

/* Offsets from the end of a table: of fields of its footer. */
#define FOOTER(offset) (SIZE_MAX - 127 + (size_t)(offset))

/* Where a byte of a key is, of a record in a table whose blocks are pages of four records. */
static size_t key_byte_at(const struct record_set *set, size_t index, size_t byte)
{
    size_t at = sizeof(struct file_header) + index / 4 * TABLE_PAGE_BYTES;

    for (size_t i = index / 4 * 4; i < index; i++) {
        at += record_size(set->records[i]);
    }
    return at + sizeof(struct record) + byte;
}

static void save_tables(void)
{
    const struct forge_settings none = {0};
    const struct forge_settings opened = {.target = {1}};
    const struct patch no_patch = {0};
    struct record_set *set;

    save_table("few_records", opened, few(), no_patch);
    save_table("two_blocks", opened, some(5, 950), no_patch);
    save_table("full_page", none, some(60, 0), no_patch);
    save_table("long_value", opened, one_long(LONG_VALUE_BYTES), no_patch);
    save_table("value_longer_than_a_window", none, one_long(WINDOW_VALUE_BYTES), no_patch);
    save_table("nothing_mended", (struct forge_settings){.leave = 0xFF}, few(), no_patch);
    save_table("other_ids", (struct forge_settings){.leave = FORGE_LEAVE_IDS}, few(), no_patch);
    save_table("bytes_behind_the_header", (struct forge_settings){.gap_byte_at = 4000}, few(),
               no_patch);
    for (unsigned i = 1; i <= 12; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "checksum_%02u_wrong", i);
        save_table(name, (struct forge_settings){.wrong = (uint8_t)i}, few(), no_patch);
    }
    save_table("chunk_damaged",
               (struct forge_settings){.leave = FORGE_LEAVE_CHECKSUMS | FORGE_LEAVE_IDS},
               one_long(LONG_VALUE_BYTES), (struct patch){8192, 1, 1});
    set = some(9, 950); /* blocks of four, four and one */
    save_table("separator_not_shortest", none, set, (struct patch){key_byte_at(set, 8, 1), 1, 'Z'});
    set = some(9, 950);
    save_table("blocks_overlap", none, set, (struct patch){key_byte_at(set, 3, 1), 1, 'Z'});
    set = some(9, 950);
    save_table("separators_out_of_order", none, set,
               (struct patch){key_byte_at(set, 4, 3), 1, ' '});
    set = some(9, 950);
    save_table("keys_out_of_order", none, set, (struct patch){key_byte_at(set, 1, 1), 1, 'Z'});
    save_table("key_not_in_the_filter", (struct forge_settings){.leave = FORGE_LEAVE_KEYS}, few(),
               (struct patch){FOOTER(-192), 8, 0});
    save_table("sums_wrong", (struct forge_settings){.leave = FORGE_LEAVE_NUMBERS}, few(),
               (struct patch){FOOTER(-80), 8, 9});
    save_table("footer_size", (struct forge_settings){.leave = FORGE_LEAVE_SIZES}, few(),
               (struct patch){FOOTER(40), 8, 64});
    save_table("footer_magic", none, few(), (struct patch){FOOTER(7), 1, 'X'});
    save_table("footer_of_another", (struct forge_settings){.leave = FORGE_LEAVE_IDS}, few(),
               (struct patch){FOOTER(24), 8, 7});
    save_table("index_size_0", none, few(), (struct patch){FOOTER(56), 8, 0});
    save_table("index_at_0", none, few(), (struct patch){FOOTER(48), 8, 0});
}

/* --- Manifests ---------------------------------------------------------------------------------
 */

static struct manifest_table table_of(uint32_t level, uint64_t number, const char *smallest,
                                      const char *largest)
{
    struct manifest_table table = {
        .level = level,
        .info =
            {
                .number = number,
                .file_id = number + 1000,
                .size_bytes = 8192,
                .records = 10,
                .markers = 1,
                .min_seq = 100 - number * 10,
                .max_seq = 109 - number * 10,
                .data_bytes = 800,
                .footer_checksum = 0x12345678,
            },
    };

    table.info.smallest.size = (uint16_t)strlen(smallest);
    memcpy(table.info.smallest.data, smallest, strlen(smallest));
    table.info.largest.size = (uint16_t)strlen(largest);
    memcpy(table.info.largest.data, largest, strlen(largest));
    return table;
}

static void save_manifest(const char *name, struct forge_settings settings, size_t n_tables,
                          size_t n_segments, struct patch patch)
{
    struct manifest_table tables[] = {
        table_of(0, 1, "a", "z"),
        table_of(0, 2, "b", "y"),
        table_of(2, 3, "a", "key"),
        table_of(2, 4, "l", "zebra"),
    };
    uint64_t segments[] = {5, 6};
    struct manifest manifest = {
        .store_id = FORGE_STORE_ID,
        .epoch = 0xE70C4,
        .number = 7,
        .next_file = 9,
        .covered_seq = 200,
        .clock_ms = 1700000000000,
        .tables = tables,
        .n_tables = n_tables,
        .segments = segments,
        .n_segments = n_segments,
    };
    struct vfs_mem *fs = vfs_mem_new(1);
    enum manifest_stage stage;
    struct vfs_dir *dir;
    size_t size;

    assert_ok(vfs_dir_open(vfs_mem_vfs(fs), "d", true, &dir));
    assert_ok(manifest_store(dir, &manifest, &stage));
    uint8_t *file = vfs_mem_get(fs, FILES_MANIFEST, &size);
    save("manifest", name, settings, file, size, patch);
    free(file);
    vfs_dir_close(dir);
    vfs_mem_free(fs);
}

/* Offsets in a manifest: behind the file header the section of counters, then that of tables. */
enum {
    COUNTERS_AT = sizeof(struct file_header),
    TABLES_AT = COUNTERS_AT + 16 + 32,
    ENTRY_AT = TABLES_AT + 16,
};

static void save_manifests(void)
{
    const struct forge_settings none = {0};
    const struct forge_settings opened = {.target = {1}};
    const struct patch no_patch = {0};

    save_manifest("new", opened, 0, 0, no_patch);
    save_manifest("tables_and_segments", opened, 4, 2, no_patch);
    save_manifest("segments", none, 0, 2, no_patch);
    save_manifest("nothing_mended", (struct forge_settings){.leave = 0xFF}, 4, 2, no_patch);
    save_manifest("header_damaged", (struct forge_settings){.wrong = 1}, 1, 1, no_patch);
    save_manifest("section_damaged", (struct forge_settings){.wrong = 3}, 1, 1, no_patch);
    save_manifest("checksum_of_all_wrong", (struct forge_settings){.wrong = 5}, 1, 1, no_patch);
    save_manifest("size_wrong", (struct forge_settings){.leave = FORGE_LEAVE_SIZES}, 0, 0,
                  (struct patch){COUNTERS_AT + 80, 8, 9});
    save_manifest("epoch_0", none, 0, 0, (struct patch){COUNTERS_AT + 16, 8, 0});
    save_manifest("next_file_low", none, 1, 1, (struct patch){COUNTERS_AT + 24, 8, 5});
    save_manifest("next_file_largest", opened, 0, 0,
                  (struct patch){COUNTERS_AT + 24, 8, UINT64_MAX});
    save_manifest("covered_low", none, 1, 1, (struct patch){COUNTERS_AT + 32, 8, 5});
    save_manifest("covered_largest", opened, 0, 0, (struct patch){COUNTERS_AT + 32, 8, UINT64_MAX});
    save_manifest("covered_2_to_48", opened, 0, 0, (struct patch){COUNTERS_AT + 32, 8, 1ULL << 48});
    save_manifest("covered_half", opened, 0, 0,
                  (struct patch){COUNTERS_AT + 32, 8, (1ULL << 47) - 1});
    save_manifest("next_file_half", opened, 0, 0,
                  (struct patch){COUNTERS_AT + 24, 8, UINT64_MAX / 2});
    save_manifest("clock_largest", opened, 0, 0, (struct patch){COUNTERS_AT + 40, 8, UINT64_MAX});
    save_manifest("later_section", none, 0, 0, (struct patch){TABLES_AT + 16, 4, 9});
    save_manifest("skipped_section", none, 0, 0, (struct patch){TABLES_AT + 16, 4, 0x80000009});
    save_manifest("section_twice", none, 0, 0, (struct patch){TABLES_AT + 16, 4, 2});
    save_manifest("level_7", none, 1, 1, (struct patch){ENTRY_AT, 4, 7});
    save_manifest("levels_out_of_order", none, 2, 1, (struct patch){ENTRY_AT, 4, 3});
    save_manifest("level_0_out_of_order", none, 2, 0, (struct patch){ENTRY_AT + 48, 8, 80});
    save_manifest("number_twice", none, 1, 1, (struct patch){ENTRY_AT + 8, 8, 5});
    save_manifest("number_0", none, 1, 1, (struct patch){ENTRY_AT + 8, 8, 0});
    save_manifest("no_key", none, 1, 0, (struct patch){ENTRY_AT + 72, 2, 0});
    save_manifest("no_largest_key", none, 1, 0, (struct patch){ENTRY_AT + 74, 2, 0});
    save_manifest("key_beyond_end", none, 1, 0, (struct patch){ENTRY_AT + 74, 2, 900});
    save_manifest("reserved_in_entry", none, 1, 0, (struct patch){ENTRY_AT + 76, 4, 1});
    save_manifest("padding_of_entry", none, 1, 0, (struct patch){ENTRY_AT + 83, 1, 1});
    save_manifest("section_size_largest", none, 1, 1, (struct patch){TABLES_AT + 8, 8, UINT64_MAX});
    save_manifest("counters_short", none, 0, 0, (struct patch){COUNTERS_AT + 8, 8, 31});
}

int main(int argc, char *argv[])
{
    if (argc != 2) {
        fputs("usage: fuzz_seeds CORPUS\n", stderr);
        return 2;
    }
    corpus = argv[1];
    struct vfs_mem *fs = vfs_mem_new(1);
    save_logs(vfs_mem_vfs(fs));
    vfs_mem_free(fs);
    save_tables();
    save_manifests();
    return 0;
}
