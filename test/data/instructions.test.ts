import test from 'ava';
import { answerIn, instructionPrompt, instructionRows, isAnswered, lastNumber } from 'lorikeet/data';

const row = { instruction: 'Add 1 and 2.', input: '', output: 'A: 3', answer: '3' };
const indent = '                ';

test('the template for training and evaluation', (t) => {
  t.is(
    instructionPrompt(row),
    'Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n### Instruction:\nAdd 1 and 2.\n\n### Response:\n',
  );
  t.is(
    instructionPrompt({ ...row, input: 'Slowly.' }),
    'Below is an instruction that describes a task, paired with an input that provides further context. Write a response that appropriately completes the request.' +
      '\n\n### Instruction:\nAdd 1 and 2.\n\n### Input:\nSlowly.\n\n### Response:\n',
  );
  t.deepEqual(instructionRows([row]), [{ prompt: instructionPrompt(row), completion: 'A: 3' }]);
  t.throws(() => instructionRows([row, { instruction: 'x' }]), { code: 'format', message: /row 1 has no "output"/ });
});

test('the published templates, byte for byte', (t) => {
  const alone = 'Below is an instruction that describes a task. Write a response that appropriately completes the request.';
  const withInput =
    'Below is an instruction that describes a task, paired with an input that provides further context. Write a response that appropriately completes the request.';
  const instruction = `${indent}### Instruction:\n${indent}Add 1 and 2.\n`;
  const input = `${indent}### Input:\n${indent}Slowly.\n`;
  const response = `${indent}### Response:\n${indent}`;
  t.is(instructionPrompt(row, 'legacy-training'), `${alone}  \n\n${instruction}${indent}\n${response}`);
  t.is(instructionPrompt(row, 'legacy-evaluation'), `${alone} \n\n${instruction}\n${response}`);
  t.is(
    instructionPrompt({ ...row, input: 'Slowly.' }, 'legacy-training'),
    `${withInput} \n\n${instruction}${indent}\n${input}${indent}\n${response}`,
  );
  t.is(instructionPrompt({ ...row, input: 'Slowly.' }, 'legacy-evaluation'), `${withInput}\n\n${instruction}\n${input}\n${response}`);
});

test('numbers in responses', (t) => {
  t.is(lastNumber('costs 1,234.5 dollars'), 1234.5);
  t.is(lastNumber('no answer'), Number.POSITIVE_INFINITY);
  t.is(lastNumber('it is -3.'), -3);
  t.is(lastNumber('first 12, then 7 apples'), 7);
  const answered = (response: string, answer: string | number): boolean => isAnswered(response, { instruction: '', answer }, 'number', 0);
  t.false(answered('no answer', '3'));
  t.true(answered('The answer is 15.', '15.0'));
  t.true(answered('0.6666', 0.6666666666666666));
  t.true(answered('0.001', 0));
  t.false(answered('0.0011', 0));
});

test('letters and words in responses', (t) => {
  t.is(answerIn('The answer is (D).', 'first-letter'), 'D');
  t.is(answerIn('Answer: B', 'first-letter'), 'A');
  t.is(answerIn('because of this (C)', 'first-letter'), 'C');
  t.is(answerIn('', 'first-letter'), undefined);
  t.is(answerIn('Answer: B', 'letter'), 'B');
  t.is(answerIn('the correct answer is answer3, not answer1', 'answer'), 'answer3');
  t.is(answerIn('answer6', 'answer'), undefined);
  t.is(answerIn('the correct answer is true', 'truth'), 'true');
  t.is(answerIn('solution2', 'solution'), 'solution2');
  t.is(answerIn('ending4', 'ending'), 'ending4');
  t.is(answerIn('option1 or option2', 'option'), 'option1');
  t.false(isAnswered('', { instruction: '', answer: 'A' }, 'first-letter', 0));
  t.true(isAnswered('Answer: B', { instruction: '', answer: 'B' }, 'letter', 0));
});

test('rows that cannot be scored are named', (t) => {
  t.throws(() => isAnswered('3', { instruction: '', answer: 'three' }, 'number', 4), {
    code: 'format',
    message: /"answer" of row 4 is no number; got "three"/,
  });
  t.throws(() => isAnswered('3', { instruction: '', answer: ' ' }, 'number', 2), { code: 'format', message: /row 2/ });
  t.throws(() => isAnswered('3', { instruction: '' }, 'truth', 7), { code: 'format', message: /row 7 has no "answer"/ });
});
