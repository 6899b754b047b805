/* crash_case.c - the file system of a test, and the letters that crashes leave in it. */
#include "tests/unit/crash_case.h"

#include <stdio.h>
#include <stdlib.h>

#include "tests/support/check.h"
#include "tests/support/random.h"
#include "tests/unit/vfs_contract.h"

struct vfs_mem *crash_fs;

int crash_case_make(void **state)
{
    (void)state;
    crash_fs = vfs_mem_new(test_seed());
    contract_path = "/store";
    assert_ok(vfs_dir_open(vfs_mem_vfs(crash_fs), contract_path, true, &contract_dir));
    return 0;
}

int crash_case_free(void **state)
{
    (void)state;
    vfs_dir_close(contract_dir);
    vfs_mem_free(crash_fs);
    return 0;
}

void write_letters(struct vfs_file *file, uint64_t offset, char letter, size_t size)
{
    char *letters = malloc(size);

    assert_non_null(letters);
    memset(letters, letter, size);
    assert_ok(contract_write(file, offset, letters, size));
    free(letters);
}

void make_letter(const char *name, char letter)
{
    struct vfs_file *file = contract_create(name);

    write_letters(file, 0, letter, 1);
    assert_ok(vfs_sync(file));
    vfs_close(file);
}

char letter_of(struct vfs_mem *after, const char *name, size_t offset)
{
    char letter = ' ';

    if (vfs_mem_exists(after, name)) {
        size_t size;
        unsigned char *data = vfs_mem_get(after, name, &size);
        letter = offset < size ? (char)data[offset] : '-';
        free(data);
    }
    return letter == '\0' ? '0' : letter;
}

static void note_outcome(struct outcomes *outcomes, const char *text)
{
    size_t i = 0;

    while (i < outcomes->n && strcmp(outcomes->texts[i], text) != 0) {
        i++;
    }
    if (i == outcomes->n) {
        assert_true(outcomes->n < COUNT_OF(outcomes->texts));
        (void)snprintf(outcomes->texts[i], sizeof outcomes->texts[i], "%s", text);
        outcomes->n++;
    }
    outcomes->counts[i]++;
}

struct outcomes crash_names(const char *names)
{
    struct outcomes outcomes = {.n = 0};

    for (uint64_t i = 0; i < CRASH_SEEDS; i++) {
        struct vfs_mem *after = vfs_mem_crash_clone(crash_fs, MEM_KEEP_RANDOM, test_seed() + i);
        char text[8] = "";
        for (size_t j = 0; names[j] != '\0'; j++) {
            const char name[2] = {names[j], '\0'};
            text[j] = letter_of(after, name, 0);
        }
        note_outcome(&outcomes, text);
        vfs_mem_free(after);
    }
    return outcomes;
}

struct outcomes crash_sectors(size_t n_sectors)
{
    struct outcomes outcomes = {.n = 0};

    for (uint64_t i = 0; i < CRASH_SEEDS; i++) {
        struct vfs_mem *after = vfs_mem_crash_clone(crash_fs, MEM_KEEP_RANDOM, test_seed() + i);
        char text[8] = "";
        for (size_t j = 0; j < n_sectors; j++) {
            text[j] = letter_of(after, "a", j * SECTOR);
            assert_int_equal(letter_of(after, "a", (j + 1) * SECTOR - 1), text[j]);
        }
        note_outcome(&outcomes, text);
        vfs_mem_free(after);
    }
    return outcomes;
}

void expect_outcomes(struct outcomes outcomes, const char *expected)
{
    size_t n_expected = 0;

    for (const char *at = expected; *at != '\0';) {
        size_t size = strcspn(at, ",");
        bool found = false;

        for (size_t i = 0; i < outcomes.n; i++) {
            found |= strlen(outcomes.texts[i]) == size && strncmp(outcomes.texts[i], at, size) == 0;
        }
        if (!found) {
            fail_msg("'%.*s' never came out", (int)size, at);
        }
        n_expected++;
        at += size + (at[size] == ',');
    }
    if (outcomes.n != n_expected) {
        for (size_t i = 0; i < outcomes.n; i++) {
            print_message("'%s' %u times\n", outcomes.texts[i], outcomes.counts[i]);
        }
        fail_msg("%zu outcomes instead of %zu", outcomes.n, n_expected);
    }
}

struct vfs_file *make_sectors(const char *letters)
{
    struct vfs_file *file = contract_create("a");

    for (size_t i = 0; letters[i] != '\0'; i++) {
        write_letters(file, i * SECTOR, letters[i], SECTOR);
    }
    assert_ok(vfs_sync(file));
    assert_ok(vfs_dir_sync(contract_dir));
    return file;
}
