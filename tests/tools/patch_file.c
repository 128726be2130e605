// SPDX-License-Identifier: Apache-2.0
//
// patch-file: damage a safetensors file in one exact way, for tests of what verify notices.
//
// clang-format off
//
//   patch-file flip FILE OFFSET              flip the lowest bit of a byte; negative: from the end
//   patch-file flip-tensor FILE TENSOR INDEX the same in a tensor's data
//   patch-file byte FILE TENSOR INDEX VALUE  set one byte of a tensor
//   patch-file set FILE TENSOR VALUE         set an F32 scalar
//   patch-file ulp FILE TENSOR               the next larger F32
//   patch-file drop IN OUT TENSOR            write a copy without a tensor
//   patch-file add IN OUT TENSOR             write a copy with one more, F32 [] of 1
//
// clang-format on
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/safetensors.h"

static oct_err err;

static void check(oct_status status)
{
    if (!status) return;
    fprintf(stderr, "patch-file: %s\n", err.text);
    exit(3);
}

static void change_byte(const char *path, long offset, unsigned char (*change)(unsigned char, int),
                        int value)
{
    unsigned char byte;
    const int fd = open(path, O_RDWR);
    if (fd < 0) exit(3);
    if (offset < 0) offset += (long)lseek(fd, 0, SEEK_END);
    if (pread(fd, &byte, 1, offset) != 1) exit(3);
    byte = change(byte, value);
    if (pwrite(fd, &byte, 1, offset) != 1) exit(3);
    close(fd);
}

static unsigned char flip(unsigned char byte, int value)
{
    return byte ^ 1;
}

static unsigned char replace(unsigned char byte, int value)
{
    return (unsigned char)value;
}

static long tensor_offset(const char *path, const char *name)
{
    oct_safetensors st = {0};
    check(oct_safetensors_open(&st, path, &err));
    const oct_st_tensor *tensor = oct_safetensors_find(&st, name);
    if (!tensor) {
        fprintf(stderr, "patch-file: '%s' has no tensor '%s'\n", path, name);
        exit(3);
    }
    const long offset = (long)tensor->offset;
    oct_safetensors_close(&st);
    return offset;
}

static void change_f32(const char *path, const char *name, bool is_ulp, float value)
{
    const long offset = tensor_offset(path, name);
    const int fd = open(path, O_RDWR);
    uint32_t bits;
    if (fd < 0 || pread(fd, &bits, sizeof bits, offset) != sizeof bits) exit(3);
    if (is_ulp)
        bits++;
    else
        memcpy(&bits, &value, sizeof bits);
    if (pwrite(fd, &bits, sizeof bits, offset) != sizeof bits) exit(3);
    close(fd);
}

static void copy_tensor(oct_st_writer *writer, const oct_safetensors *st, const oct_st_tensor *from)
{
    void *data = malloc(from->bytes + 1);
    if (!data) exit(3);
    check(oct_safetensors_read(st, from, 0, from->bytes, data, &err));
    check(oct_st_writer_write(writer, oct_st_writer_find(writer, from->name), 0, data, from->bytes,
                              &err));
    free(data);
}

static void copy_file(const char *in, const char *out, const char *name, bool is_drop)
{
    oct_safetensors st = {0};
    oct_st_writer writer = {0};
    check(oct_safetensors_open(&st, in, &err));
    for (size_t i = 0; i < st.n_meta; i++) {
        oct_st_writer_add_meta(&writer, st.meta[i].key, st.meta[i].value);
    }
    for (size_t i = 0; i < st.n_tensors; i++) {
        const oct_st_tensor *t = &st.tensors[i];
        if (is_drop && !strcmp(t->name, name)) continue;
        oct_st_writer_add(&writer, t->name, t->dtype, t->rank, t->shape);
    }
    if (!is_drop) oct_st_writer_add(&writer, name, OCT_F32, 0, NULL);
    check(oct_st_writer_begin(&writer, out, &err));
    for (size_t i = 0; i < st.n_tensors; i++) {
        if (is_drop && !strcmp(st.tensors[i].name, name)) continue;
        copy_tensor(&writer, &st, &st.tensors[i]);
    }
    const float one = 1;
    if (!is_drop) {
        check(oct_st_writer_write(&writer, oct_st_writer_find(&writer, name), 0, &one, sizeof one,
                                  &err));
    }
    check(oct_st_writer_commit(&writer, &err));
    oct_st_writer_deinit(&writer);
    oct_safetensors_close(&st);
}

int main(int argc, char **argv)
{
    const char *what = argc > 3 ? argv[1] : "";
    if (!strcmp(what, "flip")) {
        change_byte(argv[2], atol(argv[3]), flip, 0);
    } else if (!strcmp(what, "flip-tensor") && argc == 5) {
        change_byte(argv[2], tensor_offset(argv[2], argv[3]) + atol(argv[4]), flip, 0);
    } else if (!strcmp(what, "byte") && argc == 6) {
        change_byte(argv[2], tensor_offset(argv[2], argv[3]) + atol(argv[4]), replace,
                    (int)strtol(argv[5], NULL, 0));
    } else if (!strcmp(what, "set") && argc == 5) {
        change_f32(argv[2], argv[3], false, strtof(argv[4], NULL));
    } else if (!strcmp(what, "ulp")) {
        change_f32(argv[2], argv[3], true, 0);
    } else if ((!strcmp(what, "drop") || !strcmp(what, "add")) && argc == 5) {
        copy_file(argv[2], argv[3], argv[4], !strcmp(what, "drop"));
    } else {
        fprintf(stderr, "patch-file: see the head of tests/tools/patch_file.c\n");
        return 2;
    }
    return 0;
}
