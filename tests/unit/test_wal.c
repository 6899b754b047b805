/* The writing side of the log: the bytes of a segment, and what a failure leaves behind. */
#include "store/lsm/wal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/crc32c.h"
#include "store/lsm/files.h"
#include "tests/support/check.h"
#include "tests/support/made_log.h"
#include "tests/support/temp_dir.h"

#define SEGMENT_BYTES UINT64_C(65536)

static const char name1[] = "0000000000000001.log";

/* --- File operations that fail on demand ------------------------------------------------------ */

static struct {
    unsigned calls;   /* of those below that change something */
    unsigned fail_at; /* the call with this number fails, counted from 1; 0: none */
    unsigned writes, syncs, dir_syncs;
    bool dirty; /* something was written since the last sync */
    enum err err;
} faults;

static bool fails(void)
{
    return ++faults.calls == faults.fail_at;
}

static enum err failing_reserve(struct vfs_file *file, uint64_t size_bytes)
{
    return fails() ? faults.err : vfs_posix()->reserve(file, size_bytes);
}

static enum err failing_write(struct vfs_file *file, uint64_t offset, const struct iovec *parts,
                              size_t n_parts)
{
    faults.writes++;
    faults.dirty = true;
    return fails() ? faults.err : vfs_posix()->write(file, offset, parts, n_parts);
}

static enum err failing_sync(struct vfs_file *file)
{
    faults.syncs++;
    if (fails()) {
        return faults.err;
    }
    faults.dirty = false;
    return vfs_posix()->sync(file);
}

static enum err failing_dir_sync(struct vfs_dir *dir)
{
    faults.dir_syncs++;
    return fails() ? faults.err : vfs_posix()->dir_sync(dir);
}

static struct vfs failing;

/* --- Fixture ---------------------------------------------------------------------------------- */

struct fixture {
    char path[TEMP_DIR_BYTES];
    struct vfs_dir *dir;
};

static int set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);

    failing = *vfs_posix();
    failing.reserve = failing_reserve;
    failing.write = failing_write;
    failing.sync = failing_sync;
    failing.dir_sync = failing_dir_sync;
    memset(&faults, 0, sizeof faults);
    faults.err = ERR_IO;
    temp_dir_make(fixture->path);
    *state = fixture;
    return vfs_dir_open(&failing, fixture->path, false, &fixture->dir) == ERR_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;

    vfs_dir_close(fixture->dir);
    temp_dir_remove(fixture->path);
    free(fixture);
    return 0;
}

static bool count_name(void *arg, const char *name)
{
    (void)name;
    (*(unsigned *)arg)++;
    return true;
}

static unsigned count_files(struct vfs_dir *dir)
{
    unsigned n = 0;

    assert_ok(vfs_dir_list(dir, count_name, &n));
    return n;
}

static bool all_zero(const uint8_t *bytes, uint64_t size)
{
    for (uint64_t i = 0; i < size; i++) {
        if (bytes[i] != 0) {
            return false;
        }
    }
    return true;
}

/* --- Creation --------------------------------------------------------------------------------- */

static void a_new_segment_is_a_header_and_zeros_all_synced(void **state)
{
    struct fixture *fixture = *state;
    struct wal *wal = made_segment(fixture->dir, 1, SEGMENT_BYTES);
    uint64_t size;
    uint8_t *bytes = file_load(fixture->dir, name1, &size);
    struct file_header header;

    assert_false(faults.dirty);
    assert_int_equal(faults.dir_syncs, 1);
    assert_int_equal(wal_number(wal), 1);
    assert_int_equal(wal_capacity_bytes(wal), SEGMENT_BYTES);
    assert_int_equal(wal_used_bytes(wal), WAL_FIRST_FRAME_OFFSET);
    assert_int_equal(size, SEGMENT_BYTES);
    memcpy(&header, bytes, sizeof header);
    assert_ok(file_header_check(&header, FILE_SEGMENT, MADE_STORE_ID, 1, name1, NULL));
    assert_true(header.file_id == made_segment_id(1));
    assert_true(all_zero(bytes + sizeof header, size - sizeof header));
    free(bytes);
    wal_close(wal);
}

static void segments_of_any_size_are_written_to_their_last_byte(void **state)
{
    static const uint64_t sizes[] = {8192, 1 << 20, (1 << 20) + 4096, (33 << 20) + 4096};
    struct fixture *fixture = *state;

    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        struct wal *wal = made_segment(fixture->dir, i + 1, sizes[i]);
        char name[FILES_NAME_BYTES];
        uint64_t size;
        uint8_t *bytes;

        files_name(FILE_SEGMENT, i + 1, name);
        bytes = file_load(fixture->dir, name, &size);
        assert_int_equal(size, sizes[i]);
        assert_true(
            all_zero(bytes + sizeof(struct file_header), size - sizeof(struct file_header)));
        assert_false(faults.dirty);
        free(bytes);
        wal_close(wal);
    }
}

static void a_failure_at_any_step_of_creation_leaves_nothing(void **state)
{
    static const enum err errors[] = {ERR_IO, ERR_NO_SPACE};
    struct fixture *fixture = *state;
    unsigned steps = 0;

    for (size_t e = 0; e < COUNT_OF(errors); e++) {
        struct wal *const untouched = (struct wal *)&faults;
        struct wal *wal = untouched;
        for (unsigned n = 1;; n++) {
            faults.calls = 0;
            faults.fail_at = n;
            faults.err = errors[e];
            enum err err = wal_create(fixture->dir, 1, MADE_STORE_ID, 9, SEGMENT_BYTES, &wal);
            if (!err) {
                steps = n - 1;
                break;
            }
            assert_err(errors[e], err);
            assert_ptr_equal(wal, untouched);
            assert_int_equal(count_files(fixture->dir), 0);
        }
        wal_close(wal);
        assert_ok(vfs_unlink(fixture->dir, name1));
    }
    assert_true(steps >= 5); /* reserve, zeros, header, sync, directory */
}

static void an_existing_file_is_not_touched(void **state)
{
    struct fixture *fixture = *state;
    struct wal *wal = NULL;
    uint64_t size;

    file_store(fixture->dir, name1, "precious", 8);
    assert_err(ERR_EXISTS, wal_create(fixture->dir, 1, MADE_STORE_ID, 9, SEGMENT_BYTES, &wal));
    assert_null(wal);
    uint8_t *bytes = file_load(fixture->dir, name1, &size);
    assert_int_equal(size, 8);
    assert_memory_equal(bytes, "precious", 8);
    free(bytes);
}

static void closing_nothing_is_allowed(void **state)
{
    (void)state;
    wal_close(NULL);
}

/* --- Frames ----------------------------------------------------------------------------------- */

/* Checks a frame's bytes against FORMAT.md, without the code that replays. */
static void check_frame(const uint8_t *bytes, const struct made_frame *frame)
{
    const uint8_t *at = bytes + frame->offset;
    uint32_t crc = crc32c(0, at, 44);
    uint64_t record_at = frame->offset + 48;

    for (uint32_t i = 0; i < frame->count; i++) {
        const struct record *record = (const void *)(bytes + record_at);
        assert_true(made_record_is(record, frame->first_seq + i));
        crc = crc32c(crc, bytes + record_at, 4);
        record_at += record_size(record);
    }
    assert_int_equal(record_at, frame->end);
    assert_true(load_u64(at) == made_segment_id(frame->segment));
    assert_int_equal(load_u32(at + 8), frame->end - frame->offset - 48);
    assert_int_equal(load_u32(at + 12), frame->count);
    assert_true(load_u64(at + 16) == frame->first_seq);
    assert_true(load_u64(at + 24) == frame->durable_upto);
    assert_true(load_u64(at + 32) == 0);
    assert_int_equal(load_u32(at + 40), 0);
    assert_int_equal(load_u32(at + 44), crc);
}

static void frames_have_the_bytes_that_format_md_says(void **state)
{
    struct fixture *fixture = *state;
    struct wal *wal = made_segment(fixture->dir, 1, 1 << 20);
    struct made_frame frames[] = {
        made_append(wal, 1, 1, 0),   made_append(wal, 2, 3, 1),     made_append(wal, 5, 0, 4),
        made_append(wal, 5, 600, 4), made_append(wal, 605, 0, 604),
    };
    struct made_frame large = made_append(wal, MADE_LARGE_SEQ, 1, 605);
    uint64_t size;
    uint8_t *bytes = file_load(fixture->dir, name1, &size);
    uint64_t end = WAL_FIRST_FRAME_OFFSET;

    for (size_t i = 0; i < COUNT_OF(frames); i++) {
        assert_int_equal(frames[i].offset, end);
        check_frame(bytes, &frames[i]);
        end = frames[i].end;
    }
    check_frame(bytes, &large);
    assert_int_equal(wal_used_bytes(wal), large.end);
    assert_int_equal(size, 1 << 20);
    assert_true(all_zero(bytes + large.end, size - large.end));
    free(bytes);
    wal_close(wal);
}

static void a_frame_may_have_more_records_than_one_system_call_takes(void **state)
{
    static const uint32_t counts[] = {1022, 1023, 1024, 1025, 2047, 2048, WAL_FRAME_RECORDS_MAX};
    struct fixture *fixture = *state;
    struct wal *wal = made_segment(fixture->dir, 1, 8 << 20);
    struct made_frame frames[COUNT_OF(counts)];
    uint64_t next_seq = 1;
    uint64_t size;

    for (size_t i = 0; i < COUNT_OF(counts); i++) {
        frames[i] = made_append(wal, next_seq, counts[i], next_seq - 1);
        next_seq += counts[i];
    }
    uint8_t *bytes = file_load(fixture->dir, name1, &size);
    for (size_t i = 0; i < COUNT_OF(counts); i++) {
        check_frame(bytes, &frames[i]);
    }
    free(bytes);
    wal_close(wal);
}

static void a_frame_may_fill_the_segment_to_its_last_byte(void **state)
{
    struct fixture *fixture = *state;
    struct wal *wal = made_segment(fixture->dir, 1, 8192);
    uint64_t left = wal_capacity_bytes(wal) - wal_used_bytes(wal);
    uint64_t value_size = left - 48 - record_size_for(1, 0, 0);
    struct record *record = malloc(left);

    memset(record_init(record, RECORD_PUT, bytes_of("k", 1), NULL, value_size), 7, value_size);
    record_seal(record, record_payload_checksum(record), 1, 0);
    assert_ok(wal_append(wal, 1, 0, (const struct record *const[]){record}, 1));
    assert_ok(wal_sync(wal));
    assert_int_equal(wal_used_bytes(wal), 8192);
    free(record);
    wal_close(wal);
}

static void appending_takes_one_write_and_syncing_one_sync(void **state)
{
    struct fixture *fixture = *state;
    struct wal *wal = made_segment(fixture->dir, 1, SEGMENT_BYTES);

    faults.writes = faults.syncs = faults.dir_syncs = 0;
    made_append(wal, 1, 20, 0);
    assert_int_equal(faults.writes, 1);
    assert_int_equal(faults.syncs, 1);
    assert_int_equal(faults.dir_syncs, 0);
    wal_close(wal);
}

static void after_a_failed_write_nothing_more_is_written(void **state)
{
    struct fixture *fixture = *state;
    struct wal *wal = made_segment(fixture->dir, 1, SEGMENT_BYTES);
    struct record *record = made_record_new(1);

    faults.calls = 0;
    faults.fail_at = 1;
    faults.err = ERR_NO_SPACE;
    assert_err(ERR_NO_SPACE, wal_append(wal, 1, 0, (const struct record *const[]){record}, 1));
    unsigned calls = faults.calls;
    assert_err(ERR_NO_SPACE, wal_append(wal, 1, 0, (const struct record *const[]){record}, 1));
    assert_err(ERR_NO_SPACE, wal_sync(wal));
    assert_int_equal(faults.calls, calls);
    assert_int_equal(wal_used_bytes(wal), WAL_FIRST_FRAME_OFFSET);
    free(record);
    wal_close(wal);
}

static void a_failed_sync_is_never_tried_again(void **state)
{
    struct fixture *fixture = *state;
    struct wal *wal = made_segment(fixture->dir, 1, SEGMENT_BYTES);
    struct record *record = made_record_new(1);

    assert_ok(wal_append(wal, 1, 0, (const struct record *const[]){record}, 1));
    faults.calls = 0;
    faults.fail_at = 1;
    assert_err(ERR_IO, wal_sync(wal));
    assert_err(ERR_IO, wal_sync(wal));
    assert_err(ERR_IO, wal_append(wal, 2, 0, NULL, 0));
    assert_int_equal(faults.calls, 1);
    free(record);
    wal_close(wal);
}

#define test(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(a_new_segment_is_a_header_and_zeros_all_synced),
        test(segments_of_any_size_are_written_to_their_last_byte),
        test(a_failure_at_any_step_of_creation_leaves_nothing),
        test(an_existing_file_is_not_touched),
        test(closing_nothing_is_allowed),
        test(frames_have_the_bytes_that_format_md_says),
        test(a_frame_may_have_more_records_than_one_system_call_takes),
        test(a_frame_may_fill_the_segment_to_its_last_byte),
        test(appending_takes_one_write_and_syncing_one_sync),
        test(after_a_failed_write_nothing_more_is_written),
        test(a_failed_sync_is_never_tried_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
