// SPDX-License-Identifier: Apache-2.0
//
// Runs while building: writes the policy files it is given as the C table of policy_bundle.h.
//
//   embed_policies OUT.c FILE.json...
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void die(const char *what, const char *path)
{
    fprintf(stderr, "embed_policies: cannot %s '%s'\n", what, path);
    exit(1);
}

static void put_bytes(FILE *out, const char *path, int number)
{
    FILE *in = fopen(path, "rb");
    int c, n = 0;

    if (!in) die("read", path);
    fprintf(out, "\nstatic const unsigned char text_%d[] = {", number);
    while ((c = getc(in)) != EOF) {
        fprintf(out, "%s%d,", n++ % 20 ? " " : "\n    ", c);
    }
    if (ferror(in) || n == 0) die("read", path);
    fprintf(out, "\n};\n");
    fclose(in);
}

static void put_row(FILE *out, const char *path, int number)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    const size_t length = strlen(name);

    if (length < 6 || strcmp(name + length - 5, ".json") != 0) die("name a policy after", path);
    fprintf(out, "    {\"%.*s\", text_%d, sizeof text_%d},\n", (int)(length - 5), name, number,
            number);
}

int main(int argc, char **argv)
{
    if (argc < 3) die("do without arguments:", "OUT.c FILE.json...");
    FILE *out = fopen(argv[1], "wb");
    if (!out) die("write", argv[1]);
    fprintf(out, "// Made by embed_policies from ptq/policies/.\n"
                 "#include \"ptq/policy_bundle.h\"\n");
    for (int i = 2; i < argc; i++) {
        put_bytes(out, argv[i], i - 2);
    }
    fprintf(out, "\nconst oct_policy_file oct_policy_files[] = {\n");
    for (int i = 2; i < argc; i++) {
        put_row(out, argv[i], i - 2);
    }
    fprintf(out, "};\n\nconst size_t oct_n_policy_files = %d;\n", argc - 2);
    if (fclose(out) != 0) die("write", argv[1]);
    return 0;
}
