// SPDX-License-Identifier: Apache-2.0
//
// Which Octavo this is, for files that say what made them.
#pragma once

const char *oct_version(void);  // "0.1.0"
