/*
 * A crash at any moment: every acknowledged write is there, what follows it is an exact prefix of
 * what was written, and the log is never refused. Torn and reordered sectors come from vfs_mem.
 */
#include "store/lsm/wal.h"

#include <stdlib.h>

#include "tests/support/check.h"
#include "tests/support/made_log.h"
#include "tests/support/random.h"
#include "tests/support/vfs_mem.h"

enum { SEGMENTS_MAX = 4, ROUNDS = 25, CLONES = 6 };

#define SEGMENT_BYTES UINT64_C(20480)
#define ROUND_BYTES   UINT64_C(8192) /* that a round takes at most */

/* How the log is written. */
struct style {
    unsigned frames_per_sync; /* at most */
    bool early_rotation;      /* goes on in the next segment before this one is synced */
};

static const struct style styles[] = {
    {.frames_per_sync = 1, .early_rotation = false}, /* as the engine does */
    {.frames_per_sync = 4, .early_rotation = false},
    {.frames_per_sync = 4, .early_rotation = true},
};

/* A log being written until something fails. */
struct writer {
    const struct style *style;
    struct prng prng;
    struct vfs_dir *dir;
    struct wal *wals[SEGMENTS_MAX];
    size_t n_wals;        /* created, so that a manifest could name them */
    size_t n_synced;      /* the first ones, that hold nothing unsynced any more */
    uint64_t written_seq; /* greatest number that was handed to the log */
    uint64_t durable_seq; /* …and that a sync has covered: acknowledged */
};

static enum err create_next(struct writer *writer)
{
    uint64_t number = writer->n_wals + 1;
    enum err err = wal_create(writer->dir, number, MADE_STORE_ID, made_segment_id(number),
                              SEGMENT_BYTES, &writer->wals[writer->n_wals]);

    writer->n_wals += !err;
    return err;
}

static enum err append_frame(struct writer *writer)
{
    struct wal *wal = writer->wals[writer->n_wals - 1];
    uint32_t count = (uint32_t)prng_below(&writer->prng, 6);
    uint64_t first_seq = writer->written_seq + 1;

    writer->written_seq += count;
    return made_try_append(wal, first_seq, count, writer->durable_seq);
}

static enum err sync_all(struct writer *writer)
{
    enum err err = ERR_OK;

    for (size_t i = writer->n_synced; !err && i < writer->n_wals; i++) {
        err = wal_sync(writer->wals[i]);
    }
    if (!err) {
        writer->durable_seq = writer->written_seq;
        writer->n_synced = writer->n_wals - 1;
    }
    return err;
}

static bool has_room(const struct writer *writer)
{
    const struct wal *wal = writer->wals[writer->n_wals - 1];

    return wal_capacity_bytes(wal) - wal_used_bytes(wal) > ROUND_BYTES;
}

static enum err write_round(struct writer *writer)
{
    enum err err = ERR_OK;

    for (uint64_t n = 1 + prng_below(&writer->prng, writer->style->frames_per_sync); !err && n > 0;
         n--) {
        err = append_frame(writer);
        if (!err && writer->n_wals < SEGMENTS_MAX && prng_chance(&writer->prng, 8)) {
            err = writer->style->early_rotation ? ERR_OK : sync_all(writer);
            err = err ? err : create_next(writer);
        }
    }
    return err ? err : sync_all(writer);
}

/* The same for the same seed, until an operation fails. */
static struct writer write_log(struct vfs_mem *fs, const struct style *style, uint64_t seed)
{
    struct writer writer = {.style = style};

    prng_init(&writer.prng, seed);
    assert_ok(vfs_dir_open(vfs_mem_vfs(fs), "log", true, &writer.dir));
    enum err err = create_next(&writer);
    for (unsigned i = 0; !err && i < ROUNDS && has_room(&writer); i++) {
        err = write_round(&writer);
    }
    for (size_t i = 0; i < writer.n_wals; i++) {
        wal_close(writer.wals[i]);
    }
    vfs_dir_close(writer.dir);
    return writer;
}

static enum err see_frame(void *arg, const struct frame_header *frame,
                          const struct record *const records[], uint64_t segment_number,
                          uint64_t offset)
{
    uint64_t *seen_seq = arg;

    (void)segment_number;
    (void)offset;
    assert_true(frame->first_seq == *seen_seq + 1);
    for (uint32_t i = 0; i < frame->count; i++) {
        assert_true(made_record_is(records[i], frame->first_seq + i));
    }
    *seen_seq += frame->count;
    return ERR_OK;
}

/* Replays what a crash left. Returns the last number that is there. */
static uint64_t check_log(struct vfs_mem *fs, const struct writer *writer)
{
    static const uint64_t numbers[SEGMENTS_MAX] = {1, 2, 3, 4};
    struct wal_replay result;
    struct err_detail detail = {.text = ""};
    uint64_t seen_seq = 0;
    struct vfs_dir *dir;

    assert_ok(vfs_dir_open(vfs_mem_vfs(fs), "log", false, &dir));
    enum err err = wal_replay(dir, MADE_STORE_ID, numbers, writer->n_wals, 1, see_frame, NULL,
                              &seen_seq, &result, &detail);
    if (err) {
        print_error("%s\n", detail.text);
    }
    assert_ok(err);
    assert_true(result.next_seq == seen_seq + 1);
    assert_true(writer->durable_seq <= seen_seq && seen_seq <= writer->written_seq);
    vfs_dir_close(dir);
    return seen_seq;
}

/* One moment, many ways in which the power may have failed. Counts those that kept unacknowledged
 * writes, and those that lost some. */
static void check_crashes(struct vfs_mem *fs, const struct writer *writer, uint64_t seed,
                          unsigned *kept, unsigned *lost)
{
    for (uint64_t i = 0; i < CLONES; i++) {
        enum mem_keep keep = i == 0 ? MEM_KEEP_NOTHING : i == 1 ? MEM_KEEP_ALL : MEM_KEEP_RANDOM;
        struct vfs_mem *after = vfs_mem_crash_clone(fs, keep, scramble64(seed + i));
        uint64_t last_seq = check_log(after, writer);

        assert_true(check_log(after, writer) == last_seq);
        *kept += last_seq > writer->durable_seq;
        *lost += last_seq < writer->written_seq;
        vfs_mem_free(after);
    }
}

/* Runs the workload once for each of its calls that changes the disk, and lets that one fail. */
static void sweep(const struct style *style, enum vfs_mem_action action, unsigned ops,
                  uint64_t seed, unsigned *kept, unsigned *lost)
{
    for (uint64_t nth = 1;; nth++) {
        struct vfs_mem *fs = vfs_mem_new(scramble64(seed ^ nth));
        struct vfs_mem_plan plan = {
            .ops = ops,
            .nth = nth,
            .verdict = {.action = action, .err = ERR_IO, .bytes = scramble64(nth) % 700},
        };
        vfs_mem_set_hook(fs, vfs_mem_follow_plan, &plan);
        struct writer writer = write_log(fs, style, seed);
        bool over = plan.seen < nth;
        vfs_mem_set_hook(fs, NULL, NULL);
        if (!vfs_mem_is_crashed(fs)) {
            (void)check_log(fs, &writer); /* the process alone starts again */
        }
        check_crashes(fs, &writer, seed ^ nth, kept, lost);
        vfs_mem_free(fs);
        if (over) {
            break;
        }
    }
}

static void sweep_styles(enum vfs_mem_action action, unsigned ops)
{
    uint64_t seed = test_seed();
    unsigned kept = 0, lost = 0;

    for (size_t i = 0; i < COUNT_OF(styles); i++) {
        sweep(&styles[i], action, ops, seed + i, &kept, &lost);
    }
    assert_true(kept > 20 && lost > 20);
}

static void a_crash_before_any_operation_loses_nothing_acknowledged(void **state)
{
    (void)state;
    sweep_styles(VFS_MEM_CRASH, VFS_MEM_CHANGES);
}

static void a_crash_within_any_operation_loses_nothing_acknowledged(void **state)
{
    (void)state;
    sweep_styles(VFS_MEM_CRASH_PARTLY, VFS_MEM_CHANGES);
}

static void a_write_that_fails_half_way_loses_nothing_acknowledged(void **state)
{
    (void)state;
    sweep_styles(VFS_MEM_FAIL_PARTLY, VFS_MEM_BIT(VFS_MEM_WRITE));
}

static void a_sync_that_fails_loses_nothing_acknowledged(void **state)
{
    (void)state;
    sweep_styles(VFS_MEM_FAIL, VFS_MEM_BIT(VFS_MEM_SYNC));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_crash_before_any_operation_loses_nothing_acknowledged),
        cmocka_unit_test(a_crash_within_any_operation_loses_nothing_acknowledged),
        cmocka_unit_test(a_write_that_fails_half_way_loses_nothing_acknowledged),
        cmocka_unit_test(a_sync_that_fails_loses_nothing_acknowledged),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
