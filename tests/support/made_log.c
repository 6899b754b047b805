/* made_log.c - records and segments made of numbers. */
#include "tests/support/made_log.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/lsm/files.h"
#include "tests/support/pattern.h"
#include "tests/support/random.h"

/* Not assert(): the call must happen in any build. */
static void must(enum err err, const char *what)
{
    if (err) {
        fprintf(stderr, "%s: %s\n", what, err_name(err));
        abort();
    }
}

static void *must_alloc(uint64_t size)
{
    void *memory = malloc(size == 0 ? 1 : (size_t)size);

    if (!memory) {
        abort();
    }
    return memory;
}

/* --- Records ---------------------------------------------------------------------------------- */

static uint64_t value_size_of(uint64_t seq)
{
    return seq == MADE_LARGE_SEQ ? 2 * RECORD_CHUNK_BYTES + 11 : seq * 37 % 150;
}

struct record *made_record_new(uint64_t seq)
{
    static const char *const types[] = {"", "text/plain", "application/json"};
    char key_text[48];
    enum record_kind kind = seq % 5 == 0 && seq != MADE_LARGE_SEQ ? RECORD_DELETE : RECORD_PUT;
    uint64_t value_size = kind == RECORD_DELETE ? 0 : value_size_of(seq);
    struct record_meta meta = {
        .modified_ms = seq % 3 == 0 ? 0 : UINT64_C(1700000000000) + seq,
        .content_type = bytes_of_text(types[seq % 3]),
    };

    (void)snprintf(key_text, sizeof key_text, "%.*s%" PRIu64, (int)(seq % 20),
                   "key/of/some/length/x", seq);
    struct bytes key = bytes_of_text(key_text);
    struct record *record =
        must_alloc(record_size_for((uint16_t)key.size, record_meta_size(&meta), value_size));
    void *value = record_init(record, kind, key, &meta, value_size);
    pattern_fill(key, seq, value, value_size);
    record_seal(record, record_payload_checksum(record), seq,
                seq % 2 == 0 ? RECORD_LAST_OF_BATCH : 0);
    return record;
}

bool made_record_is(const struct record *record, uint64_t seq)
{
    struct record *expected = made_record_new(seq);
    bool same = record_size(record) == record_size(expected) &&
                memcmp(record, expected, record_size(expected)) == 0;

    free(expected);
    return same;
}

/* --- Segments --------------------------------------------------------------------------------- */

uint64_t made_segment_id(uint64_t number)
{
    return scramble64(number) | 1;
}

struct wal *made_segment(struct vfs_dir *dir, uint64_t number, uint64_t size_bytes)
{
    struct wal *wal;

    must(wal_create(dir, number, MADE_STORE_ID, made_segment_id(number), size_bytes, &wal),
         "wal_create");
    return wal;
}

enum err made_try_append(struct wal *wal, uint64_t first_seq, uint32_t count, uint64_t durable_upto)
{
    struct record **records = must_alloc((count + 1) * sizeof *records);

    for (uint32_t i = 0; i < count; i++) {
        records[i] = made_record_new(first_seq + i);
    }
    records[count] = NULL; /* an empty frame has an array too */
    enum err err =
        wal_append(wal, first_seq, durable_upto, (const struct record *const *)records, count);
    for (uint32_t i = 0; i < count; i++) {
        free(records[i]);
    }
    free(records);
    return err;
}

struct made_frame made_append(struct wal *wal, uint64_t first_seq, uint32_t count,
                              uint64_t durable_upto)
{
    struct made_frame frame = {
        .segment = wal_number(wal),
        .offset = wal_used_bytes(wal),
        .first_seq = first_seq,
        .durable_upto = durable_upto,
        .count = count,
    };

    must(made_try_append(wal, first_seq, count, durable_upto), "wal_append");
    must(wal_sync(wal), "wal_sync");
    frame.end = wal_used_bytes(wal);
    return frame;
}

/* --- Files ------------------------------------------------------------------------------------ */

uint8_t *file_load(struct vfs_dir *dir, const char *name, uint64_t *ret_size)
{
    struct vfs_file *file;
    uint64_t size;
    size_t got;

    must(vfs_open(dir, name, VFS_READ, &file), name);
    must(vfs_size(file, &size), name);
    uint8_t *bytes = must_alloc(size);
    must(vfs_read(file, 0, bytes, (size_t)size, &got), name);
    assert(got == size);
    vfs_close(file);
    *ret_size = size;
    return bytes;
}

void file_store(struct vfs_dir *dir, const char *name, const void *bytes, uint64_t size)
{
    struct vfs_file *file;
    struct iovec part = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = (size_t)size};
    enum err err = vfs_unlink(dir, name);

    assert(err == ERR_OK || err == ERR_NOT_FOUND);
    must(vfs_open(dir, name, VFS_CREATE, &file), name);
    must(vfs_write(file, 0, &part, 1), name);
    vfs_close(file);
}

void file_patch(struct vfs_dir *dir, const char *name, uint64_t offset, const void *bytes,
                size_t size)
{
    struct vfs_file *file;
    struct iovec part = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = size};

    must(vfs_open(dir, name, VFS_WRITE, &file), name);
    must(vfs_write(file, offset, &part, 1), name);
    vfs_close(file);
}

/* --- A log of three segments ------------------------------------------------------------------ */

const uint64_t made_numbers[MADE_SEGMENTS] = {1, 2, 3};

const char *made_name(uint64_t segment)
{
    static char name[FILES_NAME_BYTES];

    files_name(FILE_SEGMENT, segment, name);
    return name;
}

struct made_log *made_log_new(const struct vfs *vfs, const struct made_plan *plan, size_t n,
                              uint64_t segment_bytes)
{
    struct made_log *log = must_alloc(sizeof *log);
    struct wal *wals[MADE_SEGMENTS];
    uint64_t next_seq = 1;

    *log = (struct made_log){.n_frames = n};
    if (vfs == vfs_posix()) {
        temp_dir_make(log->path);
    } else {
        static unsigned n_made;
        (void)snprintf(log->path, sizeof log->path, "made-log-%u", n_made++);
    }
    must(vfs_dir_open(vfs, log->path, true, &log->dir), "open");
    for (size_t s = 0; s < MADE_SEGMENTS; s++) {
        wals[s] = made_segment(log->dir, made_numbers[s], segment_bytes);
    }
    assert(n <= MADE_FRAMES_MAX);
    for (size_t i = 0; i < n; i++) {
        log->frames[i] =
            made_append(wals[plan[i].segment - 1], next_seq, plan[i].count, plan[i].durable_upto);
        next_seq += plan[i].count;
    }
    for (size_t s = 0; s < MADE_SEGMENTS; s++) {
        wal_close(wals[s]);
        log->written[s] = file_load(log->dir, made_name(made_numbers[s]), &log->size_bytes[s]);
    }
    return log;
}

void made_log_free(struct made_log *log)
{
    bool temporary = log->dir->vfs == vfs_posix();

    for (size_t s = 0; s < MADE_SEGMENTS; s++) {
        enum err err = vfs_unlink(log->dir, made_name(made_numbers[s]));
        assert(err == ERR_OK || err == ERR_NOT_FOUND);
        free(log->written[s]);
    }
    vfs_dir_close(log->dir);
    if (temporary) {
        temp_dir_remove(log->path);
    }
    free(log);
}

struct made_log *made_log_synced(const struct vfs *vfs)
{
    static const struct made_plan plan[] = {
        {1, 1, 0}, {1, 3, 1}, {1, 0, 4}, {1, 2, 4},  {1, 1, 6},
        {2, 1, 7}, {2, 0, 8}, {2, 3, 8}, {2, 2, 11}, {2, 0, 13},
    };

    return made_log_new(vfs, plan, sizeof plan / sizeof plan[0], MADE_SEGMENT_BYTES);
}

struct made_log *made_log_pipelined(const struct vfs *vfs)
{
    static const struct made_plan plan[] = {
        {1, 1, 0}, {1, 2, 0}, {1, 1, 1}, {1, 2, 3}, {1, 1, 3}, {2, 2, 4}, {2, 1, 7}, {3, 1, 7},
    };

    return made_log_new(vfs, plan, sizeof plan / sizeof plan[0], MADE_SEGMENT_BYTES);
}

uint64_t made_log_end_seq(const struct made_log *log)
{
    const struct made_frame *last = &log->frames[log->n_frames - 1];

    return last->first_seq + last->count;
}

uint64_t made_log_end_of(const struct made_log *log, uint64_t segment)
{
    uint64_t end = WAL_FIRST_FRAME_OFFSET;

    for (size_t i = 0; i < log->n_frames; i++) {
        if (log->frames[i].segment == segment) {
            end = log->frames[i].end;
        }
    }
    return end;
}

void made_log_patch(struct made_log *log, uint64_t segment, uint64_t offset, const void *bytes,
                    size_t size)
{
    file_patch(log->dir, made_name(segment), offset, bytes, size);
}

void made_log_zero(struct made_log *log, uint64_t segment, uint64_t offset, uint64_t size)
{
    uint8_t *zeros = must_alloc(size);

    memset(zeros, 0, (size_t)size);
    made_log_patch(log, segment, offset, zeros, (size_t)size);
    free(zeros);
}

void made_log_cut(struct made_log *log, uint64_t segment, uint64_t size_bytes)
{
    file_store(log->dir, made_name(segment), log->written[segment - 1], size_bytes);
}

void made_log_mend(struct made_log *log, uint64_t segment)
{
    made_log_cut(log, segment, log->size_bytes[segment - 1]);
}
