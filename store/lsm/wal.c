/* wal.c - the writing side of the log: making segments, appending frames. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/lsm/files.h"
#include "store/lsm/wal.h"
#include "store/lsm/wal_reader.h"

#define PAGE_BYTES   4096u
#define ZEROS_BYTES  (UINT64_C(16) << 10)
#define ZEROS_PARTS  64u /* 1 MiB a write */
#define SYNC_BYTES   (UINT64_C(4) << 20)
#define APPEND_PARTS 1024u /* iovecs of one system call (IOV_MAX) */

struct wal {
    struct vfs_file *file;
    uint64_t number;
    uint64_t segment_id;
    uint64_t capacity_bytes;
    uint64_t used_bytes; /* where the next frame begins */
    enum err failed;     /* of the first append or sync that failed: nothing is tried after it */
};

/* --- Creation --------------------------------------------------------------------------------- */

/* Zeros over [offset, end). The pages stay in the cache on purpose: a frame that begins or ends
 * within a page that isn't there would wait for it to be read. */
static enum err write_zeros(struct vfs_file *file, uint64_t offset, uint64_t end)
{
    static const uint8_t zeros[ZEROS_BYTES];
    struct iovec parts[ZEROS_PARTS];
    size_t n = 0;

    for (uint64_t at = offset; at < end; n++) {
        uint64_t size = end - at < ZEROS_BYTES ? end - at : ZEROS_BYTES;
        assert(n < ZEROS_PARTS);
        parts[n] = (struct iovec){.iov_base = (void *)(uintptr_t)zeros, .iov_len = (size_t)size};
        at += size;
    }
    return vfs_write(file, offset, parts, n);
}

/* Synced as it goes: the log's own syncs would queue behind a whole segment (p99 while one of
 * 128 MiB is made: 45 ms with a single sync at the end, 15 to 20 ms so). */
static enum err prewrite(struct vfs_file *file, uint64_t capacity_bytes)
{
    /* First, so that a full disk is noticed before all of it is written; the blocks it sets aside
     * are marked as never written, which costs a journal commit at each later sync: hence the
     * zeros. */
    enum err err = vfs_reserve(file, capacity_bytes);
    uint64_t unsynced = 0;

    for (uint64_t at = 0; !err && at < capacity_bytes;) {
        uint64_t left = capacity_bytes - at;
        uint64_t size = left < ZEROS_PARTS * ZEROS_BYTES ? left : ZEROS_PARTS * ZEROS_BYTES;
        err = write_zeros(file, at, at + size);
        at += size;
        unsynced += size;
        if (!err && unsynced >= SYNC_BYTES) {
            err = vfs_sync(file);
            unsynced = 0;
        }
    }
    return err;
}

static enum err write_header(struct vfs_file *file, uint64_t number, uint64_t store_id,
                             uint64_t segment_id)
{
    struct file_header header;

    file_header_init(&header, FILE_SEGMENT, store_id, number, segment_id);
    struct iovec part = {.iov_base = &header, .iov_len = sizeof header};
    return vfs_write(file, 0, &part, 1);
}

static enum err write_segment(struct vfs_dir *dir, struct vfs_file *file, uint64_t number,
                              uint64_t store_id, uint64_t segment_id, uint64_t capacity_bytes,
                              uint64_t failed_syncs)
{
    enum err err = prewrite(file, capacity_bytes);
    if (!err) {
        err = write_header(file, number, store_id, segment_id);
    }
    if (!err) {
        err = vfs_sync(file);
    }
    return err ? err : vfs_dir_sync_since(dir, failed_syncs);
}

enum err wal_create(struct vfs_dir *dir, uint64_t number, uint64_t store_id, uint64_t segment_id,
                    uint64_t size_bytes, struct wal **ret_wal)
{
    char name[FILES_NAME_BYTES];
    struct wal *wal = malloc(sizeof *wal);

    assert(size_bytes % PAGE_BYTES == 0 && size_bytes > WAL_FIRST_FRAME_OFFSET);
    if (!wal) {
        return ERR_NO_MEMORY;
    }
    *wal = (struct wal){
        .number = number,
        .segment_id = segment_id,
        .capacity_bytes = size_bytes,
        .used_bytes = WAL_FIRST_FRAME_OFFSET,
    };
    files_name(FILE_SEGMENT, number, name);
    uint64_t failed_syncs = vfs_dir_failed_syncs(dir);
    enum err err = vfs_open(dir, name, VFS_CREATE, &wal->file);
    if (err) {
        free(wal);
        return err;
    }
    err = write_segment(dir, wal->file, number, store_id, segment_id, size_bytes, failed_syncs);
    if (err) {
        int saved = errno; /* of the call that failed, for the caller's text */
        wal_close(wal);
        enum err ignored = vfs_unlink(dir, name); /* what is left is removed at the next open */
        (void)ignored;
        errno = saved;
        return err;
    }
    *ret_wal = wal;
    return ERR_OK;
}

void wal_close(struct wal *wal)
{
    if (wal) {
        vfs_close(wal->file);
        free(wal);
    }
}

uint64_t wal_number(const struct wal *wal)
{
    return wal->number;
}

uint64_t wal_capacity_bytes(const struct wal *wal)
{
    return wal->capacity_bytes;
}

uint64_t wal_used_bytes(const struct wal *wal)
{
    return wal->used_bytes;
}

/* --- Frames ----------------------------------------------------------------------------------- */

/* Pair assertion: replay refuses what isn't so. */
static uint64_t total_bytes(uint64_t first_seq, const struct record *const records[], size_t n)
{
    uint64_t total = 0;

    for (size_t i = 0; i < n; i++) {
        assert(records[i]->seq == first_seq + i);
        total += record_size(records[i]);
    }
    return total;
}

/* Header and records, from where they lie. A system call takes so many parts only; a frame that is
 * cut in between by a failure or a crash is a torn one. */
static enum err write_frame(struct wal *wal, struct frame_header *header,
                            const struct record *const records[], size_t n)
{
    struct iovec parts[APPEND_PARTS];
    uint64_t offset = wal->used_bytes;
    uint64_t held_bytes = sizeof *header;
    size_t held = 1;

    parts[0] = (struct iovec){.iov_base = header, .iov_len = sizeof *header};
    for (size_t i = 0; i < n; i++) {
        if (held == APPEND_PARTS) {
            enum err err = vfs_write(wal->file, offset, parts, held);
            if (err) {
                return err;
            }
            offset += held_bytes;
            held_bytes = 0;
            held = 0;
        }
        size_t size = (size_t)record_size(records[i]);
        parts[held++] = (struct iovec){.iov_base = (void *)(uintptr_t)records[i], .iov_len = size};
        held_bytes += size;
    }
    return vfs_write(wal->file, offset, parts, held);
}

enum err wal_append(struct wal *wal, uint64_t first_seq, uint64_t durable_upto,
                    const struct record *const records[], size_t n)
{
    assert(first_seq > 0 && durable_upto < first_seq);
    assert(n <= WAL_FRAME_RECORDS_MAX);
    if (wal->failed) {
        return wal->failed;
    }
    uint64_t records_bytes = total_bytes(first_seq, records, n);
    assert(records_bytes <= UINT32_MAX);
    assert(WAL_FRAME_HEADER_BYTES + records_bytes <= wal->capacity_bytes - wal->used_bytes);

    struct frame_header header = {
        .segment_id = wal->segment_id,
        .records_bytes = (uint32_t)records_bytes,
        .count = (uint32_t)n,
        .first_seq = first_seq,
        .durable_upto = durable_upto,
    };
    header.checksum = wal_frame_checksum(&header, records, n);
    wal->failed = write_frame(wal, &header, records, n);
    if (!wal->failed) {
        wal->used_bytes += WAL_FRAME_HEADER_BYTES + records_bytes;
    }
    return wal->failed;
}

enum err wal_sync(struct wal *wal)
{
    if (!wal->failed) {
        wal->failed = vfs_sync(wal->file);
    }
    return wal->failed;
}
