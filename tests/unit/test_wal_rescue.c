/* Rescuing a damaged log: what replay takes is handed out; where replay refuses, every number that
 * was on disk is handed out or said to be lost. */
#include "store/lsm/wal_rescue.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/crc32c.h"
#include "store/lsm/wal.h"
#include "tests/support/check.h"
#include "tests/support/log_oracle.h"
#include "tests/support/made_log.h"
#include "tests/support/random.h"
#include "tests/support/vfs_mem.h"

enum { SEQ_MAX = 512 };

static struct vfs_mem *fs;

struct rescued {
    uint64_t last_seq; /* handed out */
    bool out[SEQ_MAX], lost[SEQ_MAX];
    uint64_t n_lost; /* as told of the places */
    unsigned places[WAL_PLACE_TORN + 1];
    struct wal_rescued result;
};

static enum err on_record(void *arg, const struct record *record, const char *file)
{
    struct rescued *rescued = arg;
    assert_non_null(strstr(file, ".log"));
    assert_true(record->seq > rescued->last_seq && record->seq < SEQ_MAX);
    assert_true(made_record_is(record, record->seq));
    rescued->out[record->seq] = true;
    rescued->last_seq = record->seq;
    return ERR_OK;
}

static void on_place(void *arg, const struct wal_place *place)
{
    struct rescued *rescued = arg;
    rescued->places[place->kind]++;
    rescued->n_lost += place->lost;
    for (uint64_t seq = place->first_seq; place->lost > 0 && seq <= place->last_seq; seq++) {
        assert_true(seq < SEQ_MAX);
        rescued->lost[seq] = true;
    }
}

static struct rescued rescue(const struct made_log *log)
{
    struct rescued rescued = {.last_seq = 0};
    struct wal_rescue_file files[MADE_SEGMENTS];
    for (size_t s = 0; s < MADE_SEGMENTS; s++) {
        files[s].number = made_numbers[s];
        (void)snprintf(files[s].name, sizeof files[s].name, "%s", made_name(made_numbers[s]));
    }
    assert_ok(wal_rescue(log->dir, MADE_STORE_ID, files, MADE_SEGMENTS, 0, 1, on_record, on_place,
                         &rescued, &rescued.result, NULL));
    assert_int_equal(rescued.n_lost, rescued.result.lost);
    return rescued;
}

/* Compares with what replay says of the same files. True if that refuses them. */
static bool compare(struct made_log *log)
{
    struct oracle_replay replay = oracle_replay(log, 1);
    struct rescued rescued = rescue(log);
    uint64_t end = rescued.result.next_seq;

    for (uint64_t seq = 1; seq < end; seq++) {
        if (!rescued.out[seq] && !rescued.lost[seq]) {
            fail_msg("number %llu was neither handed out nor lost", (unsigned long long)seq);
        }
    }
    for (uint64_t seq = 1; seq <= replay.seen_seq; seq++) {
        assert_true(rescued.out[seq]);
    }
    if (replay.err == ERR_OK) {
        assert_int_equal(rescued.last_seq, replay.seen_seq);
        assert_int_equal(rescued.result.records, replay.seen_records);
        assert_int_equal(rescued.result.lost, 0);
        assert_int_equal(end, replay.result.next_seq);
        return false;
    }
    assert_true(rescued.places[WAL_PLACE_LOST] + rescued.places[WAL_PLACE_HARMLESS] > 0);
    return true;
}

static void an_intact_log_is_handed_out_whole(void **state)
{
    struct made_log *logs[] = {made_log_synced(vfs_mem_vfs(fs)),
                               made_log_pipelined(vfs_mem_vfs(fs))};
    (void)state;
    for (size_t i = 0; i < COUNT_OF(logs); i++) {
        struct rescued rescued = rescue(logs[i]);
        assert_false(compare(logs[i]));
        assert_int_equal(rescued.places[WAL_PLACE_LOST] + rescued.places[WAL_PLACE_HARMLESS] +
                             rescued.places[WAL_PLACE_TORN],
                         0);
        made_log_free(logs[i]);
    }
}

/* One bit costs the record that it is in; of a record whose size is damaged, those behind it in
 * the frame, too. */
static void a_flipped_bit_costs_one_frame_at_most(void **state)
{
    struct made_log *log = made_log_synced(vfs_mem_vfs(fs));
    unsigned refused = 0, cost[4] = {0};
    (void)state;
    for (size_t s = 0; s < MADE_SEGMENTS; s++) {
        uint64_t end = made_log_end_of(log, made_numbers[s]) + 64;
        for (uint64_t bit = 0; bit < 8 * end; bit += bit < 512 || bit > 8 * 4000 ? 5 : 61) {
            uint8_t byte = (uint8_t)(log->written[s][bit / 8] ^ (1u << bit % 8));
            bool later = bit / 32 == 2; /* replay says ERR_FORMAT of another version */
            made_log_patch(log, made_numbers[s], bit / 8, &byte, 1);
            struct rescued rescued = rescue(log);
            refused += !later && compare(log);
            assert_true(rescued.result.lost < COUNT_OF(cost)); /* the largest frame has 3 */
            cost[rescued.result.lost]++;
            made_log_patch(log, made_numbers[s], bit / 8, &log->written[s][bit / 8], 1);
        }
    }
    assert_true(refused > 200);
    assert_true(cost[1] > 2 * (cost[2] + cost[3]));
    made_log_free(log);
}

static void damage_at_random(struct made_log *log, struct prng *prng)
{
    size_t s = prng_below(prng, MADE_SEGMENTS);
    uint64_t end = made_log_end_of(log, made_numbers[s]) + 16;
    uint64_t at = WAL_FIRST_FRAME_OFFSET + prng_below(prng, end - WAL_FIRST_FRAME_OFFSET);
    uint64_t size = 1 + prng_below(prng, prng_chance(prng, 50) ? 8 : 600);
    uint8_t bytes[600];

    switch (prng_below(prng, 3)) {
    case 0:
        made_log_zero(log, made_numbers[s], at, size);
        break;
    case 1:
        prng_fill(prng, bytes, sizeof bytes);
        made_log_patch(log, made_numbers[s], at, bytes, size);
        break;
    default:
        made_log_cut(log, made_numbers[s], at);
        break;
    }
}

static void every_number_is_handed_out_or_lost(void **state)
{
    struct prng prng;
    unsigned refused = 0;
    (void)state;
    prng_init(&prng, test_seed());
    for (unsigned round = 0; round < 200; round++) {
        struct made_log *log =
            round % 2 == 0 ? made_log_synced(vfs_mem_vfs(fs)) : made_log_pipelined(vfs_mem_vfs(fs));
        for (uint64_t n = 1 + prng_below(&prng, 3); n > 0; n--) {
            damage_at_random(log, &prng);
        }
        refused += compare(log);
        made_log_free(log);
    }
    assert_true(refused > 40);
}

static void a_missing_segment_is_lost(void **state)
{
    struct made_log *log = made_log_synced(vfs_mem_vfs(fs));
    struct rescued rescued = {.last_seq = 0};
    struct wal_rescue_file files[MADE_SEGMENTS] = {{.number = 1}, {.number = 2}, {.number = 3}};
    (void)state;
    (void)snprintf(files[1].name, sizeof files[1].name, "%s", made_name(2));
    assert_ok(wal_rescue(log->dir, MADE_STORE_ID, files, MADE_SEGMENTS, 0, 1, on_record, on_place,
                         &rescued, &rescued.result, NULL));
    for (uint64_t seq = 1; seq <= 13; seq++) {
        assert_int_equal(rescued.out[seq], seq > 7);
        assert_int_equal(rescued.lost[seq], seq <= 7);
    }
    made_log_free(log);
}

/* A page that can't be read hides what is in it, and nothing else. */
static struct vfs_mem_verdict fail_page(void *arg, const struct vfs_mem_call *call)
{
    uint64_t page = *(uint64_t *)arg;
    bool hit = call->op == VFS_MEM_READ && strstr(call->name, made_name(1)) &&
               call->offset < page + 512 && call->offset + call->size_bytes > page;
    return (struct vfs_mem_verdict){.action = hit ? VFS_MEM_FAIL : VFS_MEM_DO, .err = ERR_IO};
}

static void what_can_not_be_read_is_lost(void **state)
{
    struct made_log *log = made_log_synced(vfs_mem_vfs(fs));
    uint64_t page = log->frames[3].offset;
    (void)state;
    vfs_mem_set_hook(fs, fail_page, &page);
    struct rescued rescued = rescue(log);
    vfs_mem_set_hook(fs, NULL, NULL);
    assert_true(rescued.out[1] && rescued.out[4] && rescued.out[8] && rescued.out[13]);
    assert_true(rescued.lost[5]);
    made_log_free(log);
}

/* It was refused without a word once. */
static void a_record_of_a_later_version_is_refused_and_named(void **state)
{
    struct made_log *log = made_log_new(vfs_mem_vfs(fs), NULL, 0, MADE_SEGMENT_BYTES);
    struct record *record = made_record_new(1);
    struct wal_rescue_file file = {.number = 1};
    struct rescued rescued = {.last_seq = 0};
    struct err_detail detail = {.text = ""};
    (void)state;
    (void)snprintf(file.name, sizeof file.name, "%s", made_name(1));
    record->kind = 3;
    record->checksum = crc32c(0, record->payload, record_size(record) - sizeof *record);
    record->checksum = crc32c(record->checksum, (const uint8_t *)record + 4, sizeof *record - 4);
    assert_ok(vfs_unlink(log->dir, file.name));
    struct wal *wal = made_segment(log->dir, 1, MADE_SEGMENT_BYTES);
    assert_ok(wal_append(wal, 1, 0, (const struct record *const[]){record}, 1));
    assert_err(ERR_FORMAT, wal_rescue(log->dir, MADE_STORE_ID, &file, 1, 0, 1, on_record, on_place,
                                      &rescued, &rescued.result, &detail));
    assert_non_null(strstr(detail.text, file.name));
    assert_non_null(strstr(detail.text, "kind 3"));
    wal_close(wal);
    free(record);
    made_log_free(log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_intact_log_is_handed_out_whole),
        cmocka_unit_test(a_flipped_bit_costs_one_frame_at_most),
        cmocka_unit_test(every_number_is_handed_out_or_lost),
        cmocka_unit_test(a_missing_segment_is_lost),
        cmocka_unit_test(what_can_not_be_read_is_lost),
        cmocka_unit_test(a_record_of_a_later_version_is_refused_and_named),
    };
    fs = vfs_mem_new(1);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    vfs_mem_free(fs);
    return failed;
}
