/* Names and headers of a data directory's files: nothing damaged or foreign passes. */
#include "store/lsm/files.h"

#include <stdio.h>
#include <string.h>

#include "store/base/crc32c.h"
#include "tests/support/check.h"

enum { STORE = 0x5701, NUMBER = 7, FILE_ID = 0xf11e };

static struct file_header good_header(void)
{
    struct file_header header;

    file_header_init(&header, FILE_SEGMENT, STORE, NUMBER, FILE_ID);
    return header;
}

static void reseal(struct file_header *header)
{
    header->checksum = crc32c(0, header, offsetof(struct file_header, checksum));
}

static enum err check(const struct file_header *header, struct err_detail *ret_detail)
{
    *ret_detail = (struct err_detail){.text = ""};
    return file_header_check(header, FILE_SEGMENT, STORE, NUMBER, "it.log", ret_detail);
}

static void names_are_read_back(void **state)
{
    static const uint64_t numbers[] = {0, 1, 0xabcdef, UINT64_MAX};
    char name[FILES_NAME_BYTES];
    enum file_kind kind;
    uint64_t number;

    (void)state;
    files_name(FILE_SEGMENT, 0x1f, name);
    assert_string_equal(name, "000000000000001f.log");
    files_name(FILE_TABLE, 0x1f, name);
    assert_string_equal(name, "000000000000001f.table");
    for (size_t i = 0; i < COUNT_OF(numbers); i++) {
        files_name(FILE_SEGMENT, numbers[i], name);
        assert_true(files_parse_name(name, &kind, &number));
        assert_int_equal(kind, FILE_SEGMENT);
        assert_true(number == numbers[i]);
        files_name(FILE_TABLE, numbers[i], name);
        assert_true(files_parse_name(name, &kind, &number));
        assert_int_equal(kind, FILE_TABLE);
        assert_true(number == numbers[i]);
    }
}

static void each_failed_sync_gives_the_next_manifest_another_name(void **state)
{
    (void)state;
    char first[FILES_NAME_BYTES], name[FILES_NAME_BYTES];
    files_name_next(7, 0, first);
    assert_string_equal(first, FILES_MANIFEST_NEXT);
    files_name_next(UINT64_MAX, UINT64_MAX, name);
    assert_int_equal(strlen(name) + 1, FILES_NAME_BYTES);
    assert_string_not_equal(name, first);
    assert_true(files_is_next(first) && files_is_next(name));
    assert_false(files_is_next("MANIFEST") || files_is_next("MANIFEST.next.") ||
                 files_is_next("MANIFEST.next.1") || files_is_next("MANIFEST.next.1.2.3") ||
                 files_is_next("MANIFEST.nextone"));
}

static void other_names_are_not_ours(void **state)
{
    static const char *const names[] = {
        "",
        ".",
        ".log",
        "MANIFEST",
        "MANIFEST.next",
        "MANIFEST.next.1f.1",
        "BALLAST",
        "000000000000001f",
        "000000000000001f.",
        "000000000000001f.lo",
        "000000000000001f.logs",
        "000000000000001f.LOG",
        "000000000000001F.log",
        "00000000000001f.log",
        "0000000000000001f.log",
        "00000000000000-1.log",
        "000000000000 01f.log",
        "000000000000001g.log",
        "000000000000001f.tmp",
        "x000000000000001f.log",
    };
    enum file_kind kind;
    uint64_t number;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        assert_false(files_parse_name(names[i], &kind, &number));
    }
}

static void a_header_has_the_bytes_that_format_md_says(void **state)
{
    static const uint8_t expected[60] = {
        0x76, 0x61, 0x72, 0x76, 0x65, 0x0D, 0x0A, 'L', 1,    0,    0, 0, 0, 0, 0, 0,
        0,    0,    0,    0,    1,    0,    0,    0,   1,    0x57, 0, 0, 0, 0, 0, 0,
        7,    0,    0,    0,    0,    0,    0,    0,   0x1e, 0xf1, 0, 0, 0, 0, 0, 0,
    };
    struct file_header header = good_header();

    (void)state;
    assert_memory_equal(&header, expected, sizeof expected);
    assert_int_equal(header.checksum, crc32c(0, expected, sizeof expected));
}

static void a_good_header_passes(void **state)
{
    struct file_header header = good_header();
    struct err_detail detail;

    (void)state;
    assert_ok(check(&header, &detail));
    assert_true(file_header_is_intact(&header));
    assert_ok(file_header_check(&header, FILE_SEGMENT, 0, UINT64_MAX, "it.log", NULL));
    /* for a later version to tell more, and this one to ignore it */
    header.may_ignore = 0x80000001;
    reseal(&header);
    assert_ok(check(&header, &detail));
}

static void every_flipped_bit_is_noticed(void **state)
{
    struct err_detail detail;

    (void)state;
    for (size_t bit = 0; bit < 8 * sizeof(struct file_header); bit++) {
        struct file_header header = good_header();
        ((uint8_t *)&header)[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        enum err err = check(&header, &detail);
        bool looks_later = bit / 32 == 2 && header.format_version > FILES_FORMAT_VERSION;
        assert_err(looks_later ? ERR_FORMAT : ERR_CORRUPT, err);
        assert_false(file_header_is_intact(&header));
        assert_non_null(strstr(detail.text, "it.log"));
        if (looks_later) {
            assert_non_null(strstr(detail.text, "damaged"));
        }
    }
}

static void a_later_version_is_refused_with_both_versions(void **state)
{
    struct file_header header = good_header();
    struct err_detail detail;

    (void)state;
    header.format_version = 2;
    reseal(&header);
    assert_err(ERR_FORMAT, check(&header, &detail));
    assert_string_equal(detail.text,
                        "it.log: has format version 2, this varve reads version 1: use the version "
                        "of varve that wrote it");
}

static void unknown_features_are_refused_by_name(void **state)
{
    struct file_header header = good_header();
    struct err_detail detail;

    (void)state;
    header.must_understand = 0x50;
    reseal(&header);
    assert_err(ERR_FORMAT, check(&header, &detail));
    assert_non_null(strstr(detail.text, "0x50"));
    assert_non_null(strstr(detail.text, "bit 4"));

    header = good_header();
    header.checksum_type = 9;
    reseal(&header);
    assert_err(ERR_FORMAT, check(&header, &detail));
    assert_non_null(strstr(detail.text, "type 9"));
}

static void a_file_from_elsewhere_is_refused(void **state)
{
    struct file_header header = good_header();
    struct err_detail detail;

    (void)state;
    assert_err(ERR_CORRUPT,
               file_header_check(&header, FILE_SEGMENT, STORE + 1, NUMBER, "it.log", &detail));
    assert_non_null(strstr(detail.text, "another store"));
    assert_err(ERR_CORRUPT,
               file_header_check(&header, FILE_SEGMENT, STORE, NUMBER + 1, "it.log", &detail));
    assert_non_null(strstr(detail.text, "another file"));
    assert_err(ERR_CORRUPT,
               file_header_check(&header, FILE_TABLE, STORE, NUMBER, "it.log", &detail));
    assert_string_equal(detail.text, "it.log: is a log segment, not a table");
    memset(&header, 0, sizeof header);
    assert_err(ERR_CORRUPT, check(&header, &detail));
    assert_non_null(strstr(detail.text, "doesn't begin as a log segment does"));
}

static void reserved_fields_and_ids_are_checked(void **state)
{
    struct file_header header = good_header();
    struct err_detail detail;

    (void)state;
    header.reserved = 1;
    reseal(&header);
    assert_err(ERR_CORRUPT, check(&header, &detail));
    header = good_header();
    header.reserved1 = 1;
    reseal(&header);
    assert_err(ERR_CORRUPT, check(&header, &detail));
    header = good_header();
    header.file_id = 0;
    reseal(&header);
    assert_err(ERR_CORRUPT, check(&header, &detail));
    header = good_header();
    header.store_id = 0;
    reseal(&header);
    assert_err(ERR_CORRUPT, file_header_check(&header, FILE_SEGMENT, 0, NUMBER, "it.log", &detail));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_read_back),
        cmocka_unit_test(each_failed_sync_gives_the_next_manifest_another_name),
        cmocka_unit_test(other_names_are_not_ours),
        cmocka_unit_test(a_header_has_the_bytes_that_format_md_says),
        cmocka_unit_test(a_good_header_passes),
        cmocka_unit_test(every_flipped_bit_is_noticed),
        cmocka_unit_test(a_later_version_is_refused_with_both_versions),
        cmocka_unit_test(unknown_features_are_refused_by_name),
        cmocka_unit_test(a_file_from_elsewhere_is_refused),
        cmocka_unit_test(reserved_fields_and_ids_are_checked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
