/*
 * Log segments, as any bytes, with checksums, ids, sizes and numbers made right (forge.h). Segments
 * stand one behind the other; each begins with a file header's magic. They are replayed, read one
 * by one, shown, checked, salvaged, and recovered by the store.
 *
 * Settings: `number` is the last one that the tables have; target[0] has a bit for each segment
 * that is missing; target[1] bit 0 also opens the store.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/lsm/manifest.h"
#include "store/lsm/wal_reader.h"
#include "tests/fuzz/forge.h"
#include "tests/support/vfs_mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define DIRECTORY "d"

enum { SEGMENTS_MAX = 4, OPEN_STORE = 1 };

/* --- Making ------------------------------------------------------------------------------------
 */

/* Where the segment that begins at `from` ends: before the next magic, at an 8-byte step. */
static size_t segment_end(const struct forged *forged, size_t from)
{
    static const char magic[] = "varve\r\nL";

    for (size_t at = from + sizeof(uint64_t); at + sizeof(uint64_t) <= forged->size;
         at += sizeof(uint64_t)) {
        if (memcmp(forged->data + at, magic, sizeof(uint64_t)) == 0) {
            return at;
        }
    }
    return forged->size;
}

/* Records from `at` on, as far as they look like some; a frame's header never does. */
static void fill_frame(struct forged *forged, struct frame_header *frame, uint8_t *at,
                       uint64_t available)
{
    uint64_t used = 0;
    uint32_t count = 0;
    uint64_t size;

    while (record_check_shape(at + used, available - used, &size) != ERR_CORRUPT &&
           count < WAL_FRAME_RECORDS_MAX) {
        struct record *record = (struct record *)(at + used);
        if ((forged->settings.leave & FORGE_LEAVE_NUMBERS) == 0) {
            record->seq = frame->first_seq + count;
        }
        size = forge_record(forged, at + used, available - used);
        if (size == 0) {
            break;
        }
        used += size;
        count++;
    }
    if ((forged->settings.leave & FORGE_LEAVE_SIZES) == 0) {
        frame->records_bytes = (uint32_t)used;
        frame->count = count;
    }
}

/* The checksum of a frame with the records that it says it has, as far as there are so many. */
static uint32_t frame_checksum(const struct frame_header *frame, const uint8_t *at,
                               uint64_t available)
{
    static const struct record *records[WAL_FRAME_RECORDS_MAX];
    uint32_t n = 0;

    while (n < frame->count && n < WAL_FRAME_RECORDS_MAX && available >= sizeof(struct record)) {
        const struct record *record = (const struct record *)at;
        records[n++] = record;
        uint64_t size = record->value_size > available ? available : record_size(record);
        size = size < available ? size : available;
        at += size;
        available -= size;
    }
    return wal_frame_checksum(frame, records, n);
}

/* Mends the frame at `at`; returns the bytes that it takes. */
static uint64_t mend_frame(struct forged *forged, uint8_t *at, uint64_t left, uint64_t segment_id)
{
    struct frame_header *frame = (struct frame_header *)at;
    uint64_t available = left - sizeof *frame;

    if ((forged->settings.leave & FORGE_LEAVE_IDS) == 0) {
        frame->segment_id = segment_id;
    }
    fill_frame(forged, frame, at + sizeof *frame, available);
    forge_checksum(forged, &frame->checksum, frame_checksum(frame, at + sizeof *frame, available));
    return frame->records_bytes % 8 == 0 && frame->records_bytes <= available
               ? sizeof *frame + frame->records_bytes
               : sizeof *frame;
}

static void mend_segment(struct forged *forged, uint8_t *data, size_t size, uint64_t number)
{
    uint64_t segment_id = forge_header(forged, data, size, number);
    size_t at = (size_t)WAL_FIRST_FRAME_OFFSET;

    while (at + sizeof(struct frame_header) <= size) {
        at += load_u64(data + at) == 0 ? sizeof(uint64_t)
                                       : mend_frame(forged, data + at, size - at, segment_id);
    }
}

/* Puts all segments into the directory, as 1, 2, …; returns how many. */
static size_t put_segments(struct vfs_mem *fs, struct forged *forged)
{
    size_t n = 0;

    for (size_t at = 0; n < SEGMENTS_MAX && (n == 0 || at < forged->size); n++) {
        char name[FILES_NAME_BYTES];
        size_t end = segment_end(forged, at);
        size_t size;
        uint8_t *segment = forge_file(forged, forged->data + at, end - at, &size);

        files_name(FILE_SEGMENT, n + 1, name);
        mend_segment(forged, segment, size, n + 1);
        if ((forged->settings.target[0] >> n & 1) == 0) {
            vfs_mem_put(fs, name, segment, size);
        }
        free(segment);
        at = end;
    }
    return n;
}

static void put_manifest(struct vfs_dir *dir, size_t n_segments, uint64_t covered_seq)
{
    uint64_t segments[SEGMENTS_MAX] = {1, 2, 3, 4};
    struct manifest manifest = {
        .store_id = FORGE_STORE_ID,
        .epoch = 1,
        .number = 1,
        .next_file = n_segments + 1,
        .covered_seq = covered_seq,
        .segments = segments,
        .n_segments = n_segments,
    };
    enum manifest_stage stage;
    enum err err = manifest_store(dir, &manifest, &stage);

    assert(err == ERR_OK);
}

/* --- Reading -----------------------------------------------------------------------------------
 */

/* What a replay handed on. */
struct replayed {
    uint64_t next_seq;
    uint64_t frames, records;
};

static enum err see_replayed(void *arg, const struct frame_header *frame,
                             const struct record *const records[], uint64_t segment_number,
                             uint64_t offset)
{
    struct replayed *replayed = arg;

    assert(segment_number >= 1 && segment_number <= SEGMENTS_MAX);
    assert(offset >= WAL_FIRST_FRAME_OFFSET && offset % 8 == 0);
    assert(frame->first_seq == replayed->next_seq && frame->durable_upto < frame->first_seq);
    for (uint32_t i = 0; i < frame->count; i++) {
        assert(records[i]->seq == frame->first_seq + i);
        forge_assert_record(records[i]);
    }
    replayed->next_seq += frame->count;
    replayed->frames++;
    replayed->records += frame->count;
    return ERR_OK;
}

static void see_progress(void *arg, uint64_t done_bytes, uint64_t total_bytes)
{
    (void)arg;
    assert(done_bytes <= total_bytes);
}

/* The number after the last one; 0: the log is refused. */
static uint64_t replay(struct vfs_dir *dir, size_t n_segments, uint64_t covered_seq)
{
    static const uint64_t numbers[SEGMENTS_MAX] = {1, 2, 3, 4};
    struct replayed replayed = {.next_seq = covered_seq + 1};
    struct wal_replay result = {.next_seq = 0};
    struct err_detail detail = {.text = ""};
    enum err err = wal_replay(dir, FORGE_STORE_ID, numbers, n_segments, covered_seq + 1,
                              see_replayed, see_progress, &replayed, &result, &detail);

    if (err) {
        forge_assert_named(err, &detail);
        return 0;
    }
    assert(result.next_seq == replayed.next_seq);
    assert(result.frames == replayed.frames && result.records == replayed.records);
    if (result.warning.text[0] != '\0') {
        forge_assert_named(ERR_CORRUPT, &result.warning);
    }
    assert(!result.torn || result.warning.text[0] != '\0');
    return result.next_seq;
}

/* What is found in one segment by looking alone. */
struct seen {
    uint64_t records, end;
    bool bad;
};

static enum err see_frame(void *arg, const struct frame_header *frame,
                          const struct record *const records[], uint64_t segment_number,
                          uint64_t offset)
{
    struct seen *seen = arg;

    (void)segment_number;
    assert(offset >= seen->end && offset % 8 == 0);
    for (uint32_t i = 0; i < frame->count; i++) {
        assert(records[i]->seq == frame->first_seq + i);
        forge_assert_record(records[i]);
    }
    seen->end = offset + WAL_FRAME_HEADER_BYTES + frame->records_bytes;
    seen->records += frame->count;
    return ERR_OK;
}

static void see_bad(void *arg, uint64_t offset, const char *text)
{
    struct seen *seen = arg;

    (void)offset;
    assert(text[0] != '\0');
    seen->bad = true;
}

static void read_segment(struct vfs_mem *fs, struct vfs_dir *dir, uint64_t number)
{
    struct err_detail detail = {.text = ""};
    struct seen seen = {.end = WAL_FIRST_FRAME_OFFSET};
    char name[FILES_NAME_BYTES];
    char path[FILES_NAME_BYTES + sizeof DIRECTORY];
    bool damaged;

    files_name(FILE_SEGMENT, number, name);
    if (!vfs_mem_exists(fs, name)) {
        return;
    }
    enum err err = wal_read_segment(dir, name, see_frame, see_bad, &seen, &detail);
    if (err) {
        assert(err == ERR_FORMAT);
        forge_assert_named(err, &detail);
    }
    (void)snprintf(path, sizeof path, DIRECTORY "/%s", name);
    uint64_t records = forge_dump(vfs_mem_vfs(fs), path, &damaged);
    assert(records == seen.records && damaged == (seen.bad || err));
}

static void check(struct vfs_mem *fs, struct forged *forged)
{
    const struct vfs *vfs = vfs_mem_vfs(fs);
    struct vfs_dir *dir;
    enum err err = vfs_dir_open(vfs, DIRECTORY, true, &dir);

    assert(err == ERR_OK);
    size_t n = put_segments(fs, forged);
    put_manifest(dir, n, forged->settings.number);
    for (size_t i = 0; i < n; i++) {
        read_segment(fs, dir, i + 1);
    }
    uint64_t next_seq = replay(dir, n, forged->settings.number);
    uint64_t problems = forge_check(vfs, DIRECTORY);
    assert(next_seq > 0 || problems > 0);
    forge_salvage(vfs, DIRECTORY, problems == 0,
                  (~(unsigned)forged->settings.target[0] & ((1u << n) - 1)) != 0,
                  forged->settings.target[1] & OPEN_STORE);
    if (forged->settings.target[1] & OPEN_STORE) {
        bool opened = forge_open_store(vfs, DIRECTORY);
        assert(opened == (next_seq > 0 && next_seq - 1 <= RECORD_SEQ_MAX / 2));
    }
    vfs_dir_close(dir);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct forged forged;

    if (!forged_init(&forged, data, size)) {
        return 0;
    }
    struct vfs_mem *fs = vfs_mem_new(1);
    check(fs, &forged);
    vfs_mem_free(fs);
    forged_release(&forged);
    return 0;
}
