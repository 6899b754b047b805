/* Frames that the log never writes: made by hand, by mistake or by somebody. */
#include "store/lsm/wal.h"

#include <stdlib.h>
#include <string.h>

#include "store/base/crc32c.h"
#include "tests/support/check.h"
#include "tests/support/log_oracle.h"
#include "tests/support/made_log.h"

static const struct vfs *vfs;

static enum err count_frames(void *arg, const struct frame_header *frame,
                             const struct record *const records[], uint64_t segment_number,
                             uint64_t offset)
{
    (void)frame;
    (void)records;
    (void)segment_number;
    (void)offset;
    ++*(unsigned *)arg;
    return ERR_OK;
}

/* A frame of the records `first_seq` and, if `count` is 2, the next one; `change` may spoil the
 * header and the records before the frame's checksum is made. Returns its size. */
typedef void change_fn(struct frame_header *header, struct record *first);

static size_t forge_frame(uint8_t *into, uint64_t segment_id, uint64_t first_seq, uint32_t count,
                          uint64_t durable_upto, change_fn *change)
{
    uint8_t *at = into + sizeof(struct frame_header);
    struct frame_header header = {
        .segment_id = segment_id,
        .count = count,
        .first_seq = first_seq,
        .durable_upto = durable_upto,
    };
    uint32_t sums[3]; /* one may be claimed that isn't there */

    for (uint32_t i = 0; i < count; i++) {
        struct record *record = made_record_new(first_seq + i);
        memcpy(at, record, record_size(record));
        at += record_size(record);
        free(record);
    }
    header.records_bytes = (uint32_t)(at - into - (ptrdiff_t)sizeof header);
    if (change) {
        change(&header, (void *)(into + sizeof header));
    }
    at = into + sizeof header;
    for (uint32_t i = 0; i < header.count; i++) {
        sums[i] = load_u32(at);
        at += record_size((const void *)at);
    }
    header.checksum = crc32c(crc32c(0, &header, 44), sums, header.count * sizeof sums[0]);
    memcpy(into, &header, sizeof header);
    return sizeof header + header.records_bytes;
}

/* A log without frames, but for what is patched into segment 1. */
static struct made_log *forged_log(const void *frames, size_t size)
{
    struct made_log *log = made_log_new(vfs, NULL, 0, MADE_SEGMENT_BYTES);

    made_log_patch(log, 1, WAL_FIRST_FRAME_OFFSET, frames, size);
    return log;
}

/* --- Fields ----------------------------------------------------------------------------------- */

static void reseal(struct record *record)
{
    record_seal(record, record_payload_checksum(record), record->seq, record->flags);
}

static void spoil_nothing(struct frame_header *header, struct record *first)
{
    (void)header;
    (void)first;
}

static void spoil_count_up(struct frame_header *header, struct record *first)
{
    (void)first;
    header->count++;
}

static void spoil_count_down(struct frame_header *header, struct record *first)
{
    (void)first;
    header->count--;
}

static void spoil_count_to_nothing(struct frame_header *header, struct record *first)
{
    (void)first;
    header->count = 0;
}

static void spoil_bytes_up(struct frame_header *header, struct record *first)
{
    (void)first;
    header->records_bytes += 8;
}

static void spoil_bytes_down(struct frame_header *header, struct record *first)
{
    (void)first;
    header->records_bytes -= 8;
}

static void spoil_bytes_odd(struct frame_header *header, struct record *first)
{
    (void)first;
    header->records_bytes += 4;
}

static void spoil_bytes_huge(struct frame_header *header, struct record *first)
{
    (void)first;
    header->records_bytes = UINT32_MAX - 7;
}

static void spoil_first_seq(struct frame_header *header, struct record *first)
{
    (void)first;
    header->first_seq = 0;
    header->durable_upto = 0;
}

static void spoil_durable_upto(struct frame_header *header, struct record *first)
{
    (void)first;
    header->durable_upto = header->first_seq;
}

static void spoil_reserved(struct frame_header *header, struct record *first)
{
    (void)first;
    header->reserved = 1;
}

static void spoil_reserved1(struct frame_header *header, struct record *first)
{
    (void)first;
    header->reserved1 = 1;
}

static void spoil_first_number(struct frame_header *header, struct record *first)
{
    (void)header;
    first->seq++;
    reseal(first);
}

static void spoil_second_number(struct frame_header *header, struct record *first)
{
    struct record *second = (void *)((uint8_t *)first + record_size(first));

    (void)header;
    second->seq++;
    reseal(second);
}

static void spoil_record_checksum(struct frame_header *header, struct record *first)
{
    (void)header;
    first->checksum++;
}

static void spoil_record_reserved(struct frame_header *header, struct record *first)
{
    (void)header;
    first->reserved1 = 1;
    reseal(first);
}

/* Each has a right checksum of its frame, and one field that doesn't fit the others. */
static void a_frame_is_valid_only_if_all_its_fields_agree(void **state)
{
    static change_fn *const changes[] = {
        spoil_nothing,      spoil_count_up,      spoil_count_down,      spoil_count_to_nothing,
        spoil_bytes_up,     spoil_bytes_down,    spoil_bytes_odd,       spoil_bytes_huge,
        spoil_first_seq,    spoil_durable_upto,  spoil_reserved,        spoil_reserved1,
        spoil_first_number, spoil_second_number, spoil_record_checksum, spoil_record_reserved,
    };
    _Alignas(8) uint8_t bytes[1024] = {0};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(changes); i++) {
        (void)forge_frame(bytes, made_segment_id(1), 1, 2, 0, changes[i]);
        struct made_log *log = forged_log(bytes, sizeof bytes);
        struct wal_replay result;
        unsigned frames = 0;
        assert_ok(wal_replay(log->dir, MADE_STORE_ID, made_numbers, MADE_SEGMENTS, 1, count_frames,
                             NULL, &frames, &result, NULL));
        assert_int_equal(frames, changes[i] == spoil_nothing ? 1 : 0);
        assert_int_equal(result.torn, changes[i] != spoil_nothing);
        made_log_free(log);
    }
}

/* One record more than the reader has room for. */
static void a_frame_of_too_many_records_is_none(void **state)
{
    enum { COUNT = WAL_FRAME_RECORDS_MAX + 1, RECORD_BYTES = 48 };
    struct frame_header header = {
        .segment_id = made_segment_id(1),
        .records_bytes = COUNT * RECORD_BYTES,
        .count = COUNT,
        .first_seq = 1,
    };
    struct made_log *log = made_log_new(vfs, NULL, 0, 1 << 20);
    uint8_t *records = calloc(COUNT, RECORD_BYTES);
    struct wal_replay result;
    unsigned frames = 0;

    (void)state;
    header.checksum = crc32c(0, &header, 44);
    for (uint32_t i = 0; i < COUNT; i++) {
        struct record *record = (void *)(records + i * RECORD_BYTES);
        record_init(record, RECORD_DELETE, bytes_of("k", 1), NULL, 0);
        record_seal(record, record_payload_checksum(record), 1 + i, 0);
        header.checksum = crc32c(header.checksum, &record->checksum, 4);
    }
    made_log_patch(log, 1, WAL_FIRST_FRAME_OFFSET, &header, sizeof header);
    made_log_patch(log, 1, WAL_FIRST_FRAME_OFFSET + sizeof header, records,
                   (size_t)COUNT * RECORD_BYTES);
    assert_ok(wal_replay(log->dir, MADE_STORE_ID, made_numbers, MADE_SEGMENTS, 1, count_frames,
                         NULL, &frames, &result, NULL));
    assert_int_equal(frames, 0);
    assert_true(result.torn);
    free(records);
    made_log_free(log);
}

/* A header at the end of the file, and no room for the record that it promises. */
static void a_frame_too_small_for_its_records_is_none(void **state)
{
    struct frame_header header = {
        .segment_id = made_segment_id(1),
        .records_bytes = 8,
        .count = 1,
        .first_seq = 1,
    };
    uint64_t at = MADE_SEGMENT_BYTES - sizeof header - 8;
    struct made_log *log = made_log_new(vfs, NULL, 0, MADE_SEGMENT_BYTES);

    (void)state;
    made_log_patch(log, 1, at, &header, sizeof header);
    struct oracle_replay outcome = oracle_replay(log, 1);
    assert_ok(outcome.err);
    assert_true(outcome.result.torn);
    made_log_free(log);
}

/* Numbers that a store can't count with belong to no frame. */
static void numbers_do_not_wrap(void **state)
{
    static const uint64_t numbers[] = {RECORD_SEQ_MAX + 1, UINT64_MAX};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(numbers); i++) {
        _Alignas(8) uint8_t bytes[512] = {0};
        (void)forge_frame(bytes, made_segment_id(1), numbers[i], 1, 0, NULL);
        struct made_log *log = forged_log(bytes, sizeof bytes);
        struct oracle_replay outcome = oracle_replay(log, numbers[i]);
        assert_ok(outcome.err);
        assert_true(outcome.result.torn);
        made_log_free(log);
    }
}

/* --- Numbers ---------------------------------------------------------------------------------- */

static void frames_whose_numbers_go_back_or_overlap_are_refused(void **state)
{
    static const uint64_t firsts[] = {1, 2, 3}; /* after 1 to 3 */

    (void)state;
    for (size_t i = 0; i < COUNT_OF(firsts); i++) {
        struct made_log *log = made_log_new(vfs, NULL, 0, MADE_SEGMENT_BYTES);
        assert_ok(vfs_unlink(log->dir, made_name(1)));
        struct wal *wal = made_segment(log->dir, 1, MADE_SEGMENT_BYTES);
        log->frames[log->n_frames++] = made_append(wal, 1, 3, 0);
        made_append(wal, firsts[i], 2, 0);
        wal_close(wal);
        struct oracle_replay outcome = oracle_replay(log, 1);
        assert_err(ERR_CORRUPT, outcome.err);
        assert_int_equal(outcome.seen_seq, 3);
        assert_non_null(strstr(outcome.detail.text, "no crash leaves this behind"));
        made_log_free(log);
    }
}

static void a_gap_in_the_numbers_is_torn_or_refused(void **state)
{
    (void)state;
    for (uint64_t durable_upto = 2; durable_upto <= 4; durable_upto++) {
        struct made_log *log = made_log_new(vfs, NULL, 0, MADE_SEGMENT_BYTES);
        assert_ok(vfs_unlink(log->dir, made_name(1)));
        assert_ok(vfs_unlink(log->dir, made_name(2)));
        struct wal *wal = made_segment(log->dir, 1, MADE_SEGMENT_BYTES);
        log->frames[log->n_frames++] = made_append(wal, 1, 3, 0);
        wal_close(wal);
        wal = made_segment(log->dir, 2, MADE_SEGMENT_BYTES);
        made_append(wal, 5, 2, durable_upto);
        wal_close(wal);
        struct oracle_replay outcome = oracle_replay(log, 1);
        assert_err(durable_upto >= 4 ? ERR_CORRUPT : ERR_OK, outcome.err);
        assert_int_equal(outcome.seen_seq, 3);
        if (!outcome.err) {
            assert_int_equal(outcome.result.torn_segment, 2);
            assert_int_equal(outcome.result.torn_offset, WAL_FIRST_FRAME_OFFSET);
        }
        made_log_free(log);
    }
}

static void a_frame_that_the_tables_have_in_part_is_refused(void **state)
{
    struct made_log *log = made_log_synced(vfs);

    (void)state;
    /* made_numbers 2 to 4 are one frame */
    for (uint64_t from = 3; from <= 4; from++) {
        struct oracle_replay outcome = oracle_replay(log, from);
        assert_err(ERR_CORRUPT, outcome.err);
        assert_int_equal(outcome.seen_frames, 0);
        assert_non_null(strstr(outcome.detail.text, "the tables end before"));
    }
    made_log_free(log);
}

static void damage_among_writes_that_the_tables_have_is_refused(void **state)
{
    struct made_log *log = made_log_synced(vfs);

    (void)state;
    for (size_t i = 0; i < 2; i++) { /* numbers 1, and 2 to 4 */
        made_log_zero(log, 1, log->frames[i].offset, 48);
        struct oracle_replay outcome = oracle_replay(log, 7);
        assert_err(ERR_CORRUPT, outcome.err);
        assert_int_equal(outcome.seen_frames, 0);
        made_log_mend(log, 1);
    }
    made_log_free(log);
}

/* The tables themselves are the witness: nothing else is left. */
static void what_the_tables_have_was_durable(void **state)
{
    static const struct made_plan plan[] = {{1, 1, 0}, {1, 2, 0}, {1, 1, 0}};
    struct made_log *log = made_log_new(vfs, plan, COUNT_OF(plan), MADE_SEGMENT_BYTES);

    (void)state;
    for (size_t i = 0; i < COUNT_OF(plan); i++) {
        made_log_zero(log, 1, log->frames[i].offset, 8);
        struct oracle_replay outcome = oracle_replay(log, 4);
        assert_err(i < 2 ? ERR_CORRUPT : ERR_OK, outcome.err);
        assert_int_equal(outcome.seen_frames, 0);
        if (i == 1) {
            assert_non_null(strstr(outcome.detail.text, "says the manifest"));
        }
        made_log_mend(log, 1);
    }
    made_log_free(log);
}

/* --- Records of a later version --------------------------------------------------------------- */

/* Changes a sealed record into one that only a later version writes. */
static void make_later(struct record *record)
{
    record->kind = 3;
    record->checksum = crc32c(0, record->payload, record_size(record) - sizeof *record);
    record->checksum = crc32c(record->checksum, (const uint8_t *)record + 4, sizeof *record - 4);
}

static void an_intact_record_of_a_later_version_is_refused_not_dropped(void **state)
{
    struct made_log *log = made_log_new(vfs, NULL, 0, MADE_SEGMENT_BYTES);
    struct record *record = made_record_new(1);

    (void)state;
    assert_ok(vfs_unlink(log->dir, made_name(1)));
    struct wal *wal = made_segment(log->dir, 1, MADE_SEGMENT_BYTES);
    make_later(record);
    assert_ok(wal_append(wal, 1, 0, (const struct record *const[]){record}, 1));
    struct oracle_replay outcome = oracle_replay(log, 1);
    assert_err(ERR_FORMAT, outcome.err);
    assert_non_null(strstr(outcome.detail.text, "kind 3"));
    /* but a damaged one is damaged */
    made_log_zero(log, 1, WAL_FIRST_FRAME_OFFSET + 48 + sizeof *record, 1);
    assert_ok(oracle_replay(log, 1).err);
    wal_close(wal);
    free(record);
    made_log_free(log);
}

/* --- Frames within values --------------------------------------------------------------------- */

/* A log of number 1 and of number 2, whose value has the given bytes. */
static struct made_log *log_with_value(const void *value, size_t size)
{
    struct made_log *log = made_log_new(vfs, NULL, 0, MADE_SEGMENT_BYTES);
    struct record *record = malloc(record_size_for(8, 0, size));

    assert_ok(vfs_unlink(log->dir, made_name(1)));
    struct wal *wal = made_segment(log->dir, 1, MADE_SEGMENT_BYTES);
    log->frames[0] = made_append(wal, 1, 1, 0);
    log->n_frames = 1;
    memcpy(record_init(record, RECORD_PUT, bytes_of("01234567", 8), NULL, size), value, size);
    record_seal(record, record_payload_checksum(record), 2, 0);
    assert_ok(wal_append(wal, 2, 1, (const struct record *const[]){record}, 1));
    free(record);
    wal_close(wal);
    return log;
}

static void a_value_that_looks_like_a_frame_is_only_a_value(void **state)
{
    _Alignas(8) uint8_t value[512];
    struct wal_replay result;
    unsigned frames = 0;

    (void)state;
    size_t size = forge_frame(value, made_segment_id(1), 2, 1, 1, NULL);
    struct made_log *log = log_with_value(value, size);
    assert_ok(wal_replay(log->dir, MADE_STORE_ID, made_numbers, MADE_SEGMENTS, 1, count_frames,
                         NULL, &frames, &result, NULL));
    assert_int_equal(frames, 2);
    assert_int_equal(result.next_seq, 3);
    made_log_free(log);
}

/* Even one that has the very number that is missing, made by somebody who knows the id. */
static void a_frame_within_a_torn_value_is_never_applied(void **state)
{
    _Alignas(8) uint8_t value[512];

    (void)state;
    size_t size = forge_frame(value, made_segment_id(1), 2, 1, 1, NULL);
    struct made_log *log = log_with_value(value, size);
    uint8_t one = 1;
    made_log_patch(log, 1, log->frames[0].end + 16, &one,
                   1); /* its header's first number, which was 2 */
    struct oracle_replay outcome = oracle_replay(log, 1);
    assert_ok(outcome.err);
    assert_int_equal(outcome.seen_seq, 1);
    assert_true(outcome.result.torn);
    made_log_free(log);
}

/* A copy of the log, stored in the log: what it says is true and so does no harm. */
static void a_copy_of_the_log_in_a_torn_value_is_no_witness(void **state)
{
    struct made_log *log = made_log_new(vfs, NULL, 0, MADE_SEGMENT_BYTES);
    uint64_t size;

    (void)state;
    assert_ok(vfs_unlink(log->dir, made_name(1)));
    struct wal *wal = made_segment(log->dir, 1, MADE_SEGMENT_BYTES);
    made_append(wal, 1, 1, 0);
    wal_close(wal);
    uint8_t *copy = file_load(log->dir, made_name(1), &size);
    made_log_free(log);
    log = log_with_value(copy + WAL_FIRST_FRAME_OFFSET, 512);
    free(copy);
    made_log_zero(log, 1, log->frames[0].end, 8);
    struct oracle_replay outcome = oracle_replay(log, 1);
    assert_ok(outcome.err);
    assert_int_equal(outcome.seen_seq, 1);
    assert_true(outcome.result.torn);
    made_log_free(log);
}

/* --- Witnesses -------------------------------------------------------------------------------- */

/* At every place around the edges of what is read at once. */
static void a_witness_is_found_wherever_it_stands(void **state)
{
    struct made_log *log = made_log_new(vfs, NULL, 0, 4 << 20);
    _Alignas(8) uint8_t witness[512];
    size_t size = forge_frame(witness, made_segment_id(2), 100, 1, 99, NULL);

    (void)state;
    made_log_patch(log, 1, WAL_FIRST_FRAME_OFFSET, "x", 1); /* the bad place */
    for (uint64_t at = WAL_FIRST_FRAME_OFFSET; at + size <= log->size_bytes[1]; at += 8) {
        uint64_t in_mib = at % (1 << 20);
        bool at_edge = in_mib < 4096 + 24 || in_mib > (1 << 20) - size - 16 ||
                       at + size + 24 > log->size_bytes[1];
        if (at_edge && (in_mib < 16 || in_mib >= 4096 || at % 56 == 0)) {
            made_log_patch(log, 2, at, witness, size);
            assert_err(ERR_CORRUPT, oracle_replay(log, 1).err);
            made_log_zero(log, 2, at, size);
        }
    }
    assert_ok(oracle_replay(log, 1).err);

    /* directly behind what only begins like a frame */
    uint64_t id = made_segment_id(2);
    made_log_patch(log, 2, WAL_FIRST_FRAME_OFFSET, &id, sizeof id);
    made_log_patch(log, 2, WAL_FIRST_FRAME_OFFSET + 8, witness, size);
    assert_err(ERR_CORRUPT, oracle_replay(log, 1).err);
    made_log_free(log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_frame_is_valid_only_if_all_its_fields_agree),
        cmocka_unit_test(a_frame_of_too_many_records_is_none),
        cmocka_unit_test(a_frame_too_small_for_its_records_is_none),
        cmocka_unit_test(numbers_do_not_wrap),
        cmocka_unit_test(frames_whose_numbers_go_back_or_overlap_are_refused),
        cmocka_unit_test(a_gap_in_the_numbers_is_torn_or_refused),
        cmocka_unit_test(a_frame_that_the_tables_have_in_part_is_refused),
        cmocka_unit_test(damage_among_writes_that_the_tables_have_is_refused),
        cmocka_unit_test(what_the_tables_have_was_durable),
        cmocka_unit_test(an_intact_record_of_a_later_version_is_refused_not_dropped),
        cmocka_unit_test(a_value_that_looks_like_a_frame_is_only_a_value),
        cmocka_unit_test(a_frame_within_a_torn_value_is_never_applied),
        cmocka_unit_test(a_copy_of_the_log_in_a_torn_value_is_no_witness),
        cmocka_unit_test(a_witness_is_found_wherever_it_stands),
    };

    vfs = vfs_posix();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
