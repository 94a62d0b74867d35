# The addon for machines that have node-gyp but not CMake. Same sources and flags as CMakeLists.txt, found by the same globs. Kernel files are compiled
# once per instruction level, each level in a target of its own; the targets are linked whole, since nothing refers to a kernel by name.
{
  'variables': {
    'openssl_fips': '',
    'avx2_flags': ['-mavx2', '-mfma', '-mf16c', '-mbmi', '-mbmi2'],
    'avx512_flags': ['-mavx512f', '-mavx512bw', '-mavx512dq', '-mavx512vl', '-mprefer-vector-width=512'],
    'amx_flags': ['-mamx-tile', '-mamx-bf16', '-mamx-int8'],
  },
  'target_defaults': {
    'default_configuration': 'Release',
    'include_dirs': ['native'],
    'cflags': ['-fPIC', '-fvisibility=hidden'],
    'cflags_cc': ['-std=c++20', '-O3', '-Wall', '-Wextra', '-Wno-restrict', '-fvisibility-inlines-hidden', '-ffp-contract=off', '-fno-math-errno',
                  '-fno-trapping-math', '-frtti', '-fexceptions'],
    'cflags_cc!': ['-std=gnu++17', '-std=gnu++20', '-fno-rtti', '-fno-exceptions'],
    'cflags!': ['-fno-omit-frame-pointer'],
    'xcode_settings': {
      'CLANG_CXX_LANGUAGE_STANDARD': 'c++20',
      'GCC_ENABLE_CPP_EXCEPTIONS': 'YES',
      'GCC_ENABLE_CPP_RTTI': 'YES',
      'GCC_OPTIMIZATION_LEVEL': '3',
      'GCC_SYMBOLS_PRIVATE_EXTERN': 'YES',
      'MACOSX_DEPLOYMENT_TARGET': '13.0',
      'OTHER_CPLUSPLUSFLAGS': ['-ffp-contract=off', '-fno-math-errno', '-fno-trapping-math'],
    },
  },
  'targets': [
    {
      'target_name': 'lorikeet_cpu_scalar',
      'type': 'static_library',
      'defines': ['LORIKEET_LEVEL=scalar'],
      'sources': ['<!@(node scripts/gyp-sources.cjs cpu)'],
    },
    {
      'target_name': 'lorikeet',
      'dependencies': ['lorikeet_cpu_scalar'],
      'sources': ['<!@(node scripts/gyp-sources.cjs core ops algo binding)'],
      'include_dirs': ['<!(node -p "require(\'node-addon-api\').include_dir")'],
      'defines': ['NAPI_VERSION=9', 'NODE_ADDON_API_CPP_EXCEPTIONS_ALL', 'NODE_ADDON_API_DISABLE_DEPRECATED',
                  'NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS'],
      'conditions': [
        ['OS=="linux"', {
          'ldflags': ['-static-libstdc++', '-Wl,-z,nodelete', '-Wl,--gc-sections', '-Wl,--whole-archive',
                      '-Wl,--wrap=blas_memory_alloc', '-Wl,--wrap=blas_memory_free',
                      '-Wl,--version-script=<(module_root_dir)/native/link/exports.map'],
          'libraries': ['-Wl,--no-whole-archive', '<!(node scripts/gyp-openblas.cjs)', '-lgcc', '-lpthread', '-ldl', '-lm'],
        }],
        ['OS=="linux" and target_arch=="x64"', {
          'ldflags': ['@<(module_root_dir)/native/link/openblas-x64.options'],
        }],
        ['OS=="mac"', {
          'xcode_settings': {'OTHER_LDFLAGS': ['-Wl,-all_load', '-framework', 'Accelerate']},
        }],
        ['target_arch=="x64"', {
          'dependencies': ['lorikeet_cpu_avx2', 'lorikeet_cpu_avx512', 'lorikeet_cpu_avx512_bf16', 'lorikeet_cpu_amx_bf16'],
        }],
        ['target_arch=="arm64"', {
          'dependencies': ['lorikeet_cpu_neon'],
        }],
      ],
    },
  ],
  'conditions': [
    ['target_arch=="x64"', {
      'targets': [
        {
          'target_name': 'lorikeet_cpu_avx2',
          'type': 'static_library',
          'defines': ['LORIKEET_LEVEL=avx2'],
          'sources': ['<!@(node scripts/gyp-sources.cjs cpu)'],
          'cflags_cc': ['<@(avx2_flags)'],
          'xcode_settings': {'OTHER_CPLUSPLUSFLAGS': ['<@(avx2_flags)']},
        },
        {
          'target_name': 'lorikeet_cpu_avx512',
          'type': 'static_library',
          'defines': ['LORIKEET_LEVEL=avx512'],
          'sources': ['<!@(node scripts/gyp-sources.cjs cpu)'],
          'cflags_cc': ['<@(avx2_flags)', '<@(avx512_flags)'],
          'xcode_settings': {'OTHER_CPLUSPLUSFLAGS': ['<@(avx2_flags)', '<@(avx512_flags)']},
        },
        {
          'target_name': 'lorikeet_cpu_avx512_bf16',
          'type': 'static_library',
          'defines': ['LORIKEET_LEVEL=avx512_bf16'],
          'sources': ['<!@(node scripts/gyp-sources.cjs cpu)'],
          'cflags_cc': ['<@(avx2_flags)', '<@(avx512_flags)', '-mavx512bf16', '-mavx512vnni'],
          'xcode_settings': {'OTHER_CPLUSPLUSFLAGS': ['<@(avx2_flags)', '<@(avx512_flags)', '-mavx512bf16', '-mavx512vnni']},
        },
        {
          'target_name': 'lorikeet_cpu_amx_bf16',
          'type': 'static_library',
          'defines': ['LORIKEET_LEVEL=amx_bf16'],
          'sources': ['native/cpu/gemm-tiles.cc', 'native/cpu/gemm-int8-tiles.cc'],
          'cflags_cc': ['<@(avx2_flags)', '<@(avx512_flags)', '-mavx512bf16', '-mavx512vnni', '<@(amx_flags)'],
          'xcode_settings': {'OTHER_CPLUSPLUSFLAGS': ['<@(avx2_flags)', '<@(avx512_flags)', '-mavx512bf16', '-mavx512vnni', '<@(amx_flags)']},
        },
      ],
    }],
    ['target_arch=="arm64"', {
      'targets': [
        {
          'target_name': 'lorikeet_cpu_neon',
          'type': 'static_library',
          'defines': ['LORIKEET_LEVEL=neon'],
          'sources': ['native/cpu/gemm.cc', 'native/cpu/gemm-pack.cc', 'native/cpu/gemm-rows.cc', 'native/cpu/matmul.cc'],
        },
      ],
    }],
  ],
}
