/* Whatever becomes of its bytes, a log is replayed to an exact prefix or refused (log_oracle.h). */
#include "store/lsm/wal.h"

#include <string.h>

#include "store/lsm/files.h"
#include "tests/support/check.h"
#include "tests/support/log_oracle.h"
#include "tests/support/made_log.h"
#include "tests/support/random.h"
#include "tests/support/vfs_mem.h"

static const struct vfs *vfs;
static unsigned stride; /* 1: all that a test says; more: every so many-th */

/* --- One damaged place ------------------------------------------------------------------------ */

static void check_truncations(struct made_log *log, unsigned *refused)
{
    for (size_t s = 0; s < MADE_SEGMENTS; s++) {
        for (uint64_t size = WAL_FIRST_FRAME_OFFSET; size <= log->size_bytes[s]; size++) {
            made_log_cut(log, made_numbers[s], size);
            *refused += oracle_check(log);
            if (size > made_log_end_of(log, made_numbers[s]) + 64) {
                size += 97; /* zeros */
            }
        }
        made_log_mend(log, made_numbers[s]);
    }
}

static void drops_a_torn_tail_at_every_byte(void **state)
{
    struct made_log *logs[] = {made_log_synced(vfs), made_log_pipelined(vfs)};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(logs); i++) {
        unsigned refused = 0;
        check_truncations(logs[i], &refused);
        assert_true(refused > 100);
        made_log_free(logs[i]);
    }
}

/* A file that ends within the header or before the first frame. */
static void a_segment_shorter_than_any_is_refused(void **state)
{
    struct made_log *log = made_log_synced(vfs);

    (void)state;
    for (size_t s = 0; s < MADE_SEGMENTS; s++) {
        for (uint64_t size = 0; size < WAL_FIRST_FRAME_OFFSET; size += size < 70 ? 1 : 503) {
            made_log_cut(log, made_numbers[s], size);
            struct oracle_replay outcome = oracle_replay(log, 1);
            assert_err(ERR_CORRUPT, outcome.err);
            assert_int_equal(outcome.seen_seq, 0);
            assert_non_null(strstr(outcome.detail.text, made_name(made_numbers[s])));
        }
        made_log_mend(log, made_numbers[s]);
    }
    made_log_free(log);
}

/* Every bit of the frames and of what follows them; some elsewhere, where only zeros are. */
static void check_flips(struct made_log *log, uint64_t segment, unsigned *refused)
{
    const uint8_t *written = log->written[segment - 1];
    uint64_t dense_end = made_log_end_of(log, segment) + 64;
    uint64_t at = sizeof(struct file_header);

    while (at < log->size_bytes[segment - 1]) {
        bool dense = at >= WAL_FIRST_FRAME_OFFSET - 64 && at < dense_end;
        for (unsigned bit = 0; bit < 8; bit += dense ? stride : 5) {
            uint8_t byte = (uint8_t)(written[at] ^ (1u << bit));
            made_log_patch(log, segment, at, &byte, 1);
            *refused += oracle_check(log);
            made_log_patch(log, segment, at, &written[at], 1);
        }
        at += dense ? 1 : 32;
    }
}

static void every_flipped_bit_is_harmless_or_noticed(void **state)
{
    struct made_log *logs[] = {made_log_synced(vfs), made_log_pipelined(vfs)};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(logs); i++) {
        unsigned refused = 0;
        for (size_t s = 0; s < MADE_SEGMENTS; s++) {
            check_flips(logs[i], made_numbers[s], &refused);
        }
        assert_true(refused > 1000);
        assert_false(oracle_check(logs[i]));
        made_log_free(logs[i]);
    }
}

static void a_log_of_64_KiB_survives_any_flipped_bit(void **state)
{
    struct made_plan plan[MADE_FRAMES_MAX];
    struct prng prng;
    unsigned refused = 0;

    (void)state;
    prng_init(&prng, test_seed());
    for (size_t i = 0; i < COUNT_OF(plan); i++) {
        plan[i] = (struct made_plan){
            .segment = 1 + i * MADE_SEGMENTS / COUNT_OF(plan), .count = 8, .durable_upto = 8 * i};
    }
    struct made_log *log = made_log_new(vfs, plan, COUNT_OF(plan), UINT64_C(65536));
    for (size_t s = 0; s < MADE_SEGMENTS; s++) {
        uint64_t begin = 8 * WAL_FIRST_FRAME_OFFSET;
        uint64_t bits = 8 * made_log_end_of(log, made_numbers[s]) - begin;
        assert_true(bits / 8 > 65536 / MADE_SEGMENTS);
        uint64_t n = vfs == vfs_posix() ? 300 : test_flips(bits, 300);
        for (uint64_t i = 0; i < n; i++) {
            uint64_t bit = begin + (n == bits ? i : prng_below(&prng, bits));
            uint8_t byte = (uint8_t)(log->written[s][bit / 8] ^ (1u << bit % 8));
            made_log_patch(log, made_numbers[s], bit / 8, &byte, 1);
            refused += oracle_check(log);
            made_log_patch(log, made_numbers[s], bit / 8, &log->written[s][bit / 8], 1);
        }
    }
    assert_true(refused > 100);
    made_log_free(log);
}

static void every_byte_may_become_any_other(void **state)
{
    struct made_log *log = made_log_synced(vfs);
    struct prng prng;

    (void)state;
    prng_init(&prng, test_seed());
    for (size_t s = 0; s < MADE_SEGMENTS; s++) {
        for (uint64_t at = WAL_FIRST_FRAME_OFFSET; at < made_log_end_of(log, made_numbers[s]) + 8;
             at++) {
            uint8_t byte = (uint8_t)(log->written[s][at] + 1 + prng_below(&prng, 255));
            made_log_patch(log, made_numbers[s], at, &byte, 1);
            oracle_check(log);
            made_log_patch(log, made_numbers[s], at, &log->written[s][at], 1);
        }
    }
    made_log_free(log);
}

static void every_flipped_bit_of_a_file_header_is_refused(void **state)
{
    struct made_log *log = made_log_synced(vfs);

    (void)state;
    for (size_t s = 0; s < 2; s++) {
        for (size_t bit = 0; bit < 8 * sizeof(struct file_header); bit++) {
            uint8_t byte = (uint8_t)(log->written[s][bit / 8] ^ (1u << (bit % 8)));
            made_log_patch(log, made_numbers[s], bit / 8, &byte, 1);
            struct oracle_replay outcome = oracle_replay(log, 1);
            assert_err(bit / 32 == 2 && bit != 64 ? ERR_FORMAT : ERR_CORRUPT, outcome.err);
            assert_int_equal(outcome.seen_seq, 0);
            assert_non_null(strstr(outcome.detail.text, made_name(made_numbers[s])));
            made_log_patch(log, made_numbers[s], bit / 8, &log->written[s][bit / 8], 1);
        }
    }
    made_log_free(log);
}

static void a_spare_with_a_damaged_header_is_passed_over(void **state)
{
    struct made_log *log = made_log_synced(vfs);
    struct oracle_replay outcome;

    (void)state;
    for (size_t bit = 0; bit < 8 * sizeof(struct file_header); bit++) {
        uint8_t byte = (uint8_t)(log->written[2][bit / 8] ^ (1u << (bit % 8)));
        made_log_patch(log, 3, bit / 8, &byte, 1);
        outcome = oracle_replay(log, 1);
        bool looks_later = bit / 32 == 2 && bit != 64;
        assert_err(looks_later ? ERR_FORMAT : ERR_OK, outcome.err);
        if (!looks_later) {
            assert_int_equal(outcome.result.next_seq, made_log_end_seq(log));
            assert_false(outcome.result.torn);
            assert_non_null(strstr(outcome.result.warning.text, made_name(3)));
        }
        made_log_patch(log, 3, bit / 8, &log->written[2][bit / 8], 1);
    }
    /* lost as a whole: then what was behind it may be lost as well */
    made_log_zero(log, 3, 0, sizeof(struct file_header));
    assert_err(ERR_CORRUPT, oracle_replay(log, 1).err);
    /* intact, but of another file: where are this one's frames? */
    made_log_mend(log, 3);
    made_log_patch(log, 3, 0, log->written[1], sizeof(struct file_header));
    assert_err(ERR_CORRUPT, oracle_replay(log, 1).err);
    made_log_free(log);
}

/* --- Wider damage ----------------------------------------------------------------------------- */

static void lost_sectors_are_torn_or_refused(void **state)
{
    struct made_log *logs[] = {made_log_synced(vfs), made_log_pipelined(vfs)};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(logs); i++) {
        for (size_t s = 0; s < MADE_SEGMENTS; s++) {
            uint64_t end = made_log_end_of(logs[i], made_numbers[s]) + 64;
            for (uint64_t at = WAL_FIRST_FRAME_OFFSET; at < end; at += 8 * stride) {
                for (uint64_t size = 8; size <= 512; size *= 4) {
                    made_log_zero(logs[i], made_numbers[s], at, size);
                    oracle_check(logs[i]);
                    made_log_patch(logs[i], made_numbers[s], at, logs[i]->written[s] + at, size);
                }
            }
        }
        made_log_free(logs[i]);
    }
}

/* Several places at once, of several kinds. */
static void damage_at_random(struct made_log *log, struct prng *prng)
{
    size_t s = prng_below(prng, MADE_SEGMENTS);
    uint64_t end = made_log_end_of(log, made_numbers[s]) + 16;
    uint64_t at = WAL_FIRST_FRAME_OFFSET + prng_below(prng, end - WAL_FIRST_FRAME_OFFSET);
    uint64_t size = 1 + prng_below(prng, prng_chance(prng, 50) ? 8 : 600);
    uint8_t bytes[600];

    switch (prng_below(prng, 4)) {
    case 0:
        made_log_zero(log, made_numbers[s], at, size);
        break;
    case 1:
        prng_fill(prng, bytes, sizeof bytes);
        made_log_patch(log, made_numbers[s], at, bytes, size);
        break;
    case 2: /* bytes of this segment in another place, but no frames: shifted by 4 */
        made_log_patch(log, made_numbers[s], at / 8 * 8 + 4,
                       log->written[s] + WAL_FIRST_FRAME_OFFSET + size / 8 * 8, size);
        break;
    default:
        made_log_cut(log, made_numbers[s], at);
        break;
    }
}

static struct made_log *random_log(struct prng *prng)
{
    struct made_plan plan[MADE_FRAMES_MAX];
    size_t n = 1 + prng_below(prng, 24);
    uint64_t segment = 1, next_seq = 1, durable_upto = 0;
    bool was_empty = true; /* the oracle knows no two empty frames in a row */

    for (size_t i = 0; i < n; i++) {
        if (segment < MADE_SEGMENTS && prng_chance(prng, 15)) {
            segment++;
            was_empty = true;
        }
        if (prng_chance(prng, 70)) {
            durable_upto += prng_below(prng, next_seq - durable_upto);
        }
        plan[i].segment = segment;
        plan[i].durable_upto = durable_upto;
        plan[i].count = was_empty || prng_chance(prng, 80) ? 1 + (uint32_t)prng_below(prng, 9) : 0;
        was_empty = plan[i].count == 0;
        next_seq += plan[i].count;
    }
    return made_log_new(vfs, plan, n, UINT64_C(65536));
}

static void random_damage_is_torn_or_refused(void **state)
{
    struct prng prng;
    unsigned refused = 0, taken = 0;

    (void)state;
    prng_init(&prng, test_seed());
    for (unsigned round = 0; round < 20; round++) {
        struct made_log *log = random_log(&prng);
        assert_false(oracle_check(log));
        for (unsigned i = 0; i < 40; i++) {
            for (uint64_t n = 1 + prng_below(&prng, 3); n > 0; n--) {
                damage_at_random(log, &prng);
            }
            if (oracle_check(log)) {
                refused++;
            } else {
                taken++;
            }
            for (size_t s = 0; s < MADE_SEGMENTS; s++) {
                made_log_mend(log, made_numbers[s]);
            }
        }
        made_log_free(log);
    }
    assert_true(refused > 50 && taken > 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(drops_a_torn_tail_at_every_byte),
        cmocka_unit_test(a_segment_shorter_than_any_is_refused),
        cmocka_unit_test(every_flipped_bit_is_harmless_or_noticed),
        cmocka_unit_test(a_log_of_64_KiB_survives_any_flipped_bit),
        cmocka_unit_test(every_byte_may_become_any_other),
        cmocka_unit_test(every_flipped_bit_of_a_file_header_is_refused),
        cmocka_unit_test(a_spare_with_a_damaged_header_is_passed_over),
        cmocka_unit_test(lost_sectors_are_torn_or_refused),
        cmocka_unit_test(random_damage_is_torn_or_refused),
    };

    struct vfs_mem *fs = vfs_mem_new(1);
    int failed;

    vfs = vfs_mem_vfs(fs);
    stride = 1;
    failed = cmocka_run_group_tests_name("in memory", tests, NULL, NULL);
    vfs_mem_free(fs);
    vfs = vfs_posix();
    stride = 5;
    return failed + cmocka_run_group_tests_name("on real files", tests, NULL, NULL);
}
